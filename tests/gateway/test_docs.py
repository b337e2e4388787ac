"""The pages that show the description: they need no internet, and tell strangers nothing."""

import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from mt5_bridge.gateway import problems
from mt5_bridge.gateway.auth import Principal, Scope
from mt5_bridge.gateway.routes import docs


def client(principal: Principal | None) -> httpx.AsyncClient:
    app = FastAPI(title="Br<idge", docs_url=None, redoc_url=None, openapi_url=None)
    problems.install(app)
    app.include_router(docs.router)

    async def known(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"principal": principal}
        await app(scope, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(known), base_url="http://x")


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_a_page_loads_nothing_from_elsewhere(path: str) -> None:
    async with client(None) as asking:
        page = await asking.get(path)
        assert page.status_code == 200
        assert "Br&lt;idge" in page.text
        assert "://" not in page.text
        policy = page.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        needed = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(needed) >= 2
        for part in needed:
            assert part in docs.PATHS
            answer = await asking.get(part)
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/")
            assert len(answer.content) > 50
        assert "<script>" not in page.text


async def test_the_description_and_what_is_no_file() -> None:
    async with client(None) as asking:
        assert (await asking.get("/openapi.json")).json()["info"]["title"] == "Br<idge"
        for name in ("none.js", "..%2f..%2fconsts.py", "favicon.png"):
            assert (await asking.get(f"/docs/assets/{name}")).status_code == 404


async def test_elsewhere_it_needs_who_may_read() -> None:
    async with client(Principal(subject="ann", scopes=frozenset({Scope.STOP}))) as asking:
        for path in ("/docs", "/redoc", "/openapi.json", "/docs/assets/swagger-ui.css"):
            assert (await asking.get(path)).status_code == 403
    async with client(Principal(subject="ann", scopes=frozenset({Scope.READ}))) as asking:
        assert (await asking.get("/docs")).status_code == 200
