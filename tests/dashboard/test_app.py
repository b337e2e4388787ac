"""The web application without a browser: log in, the page, its files."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from nicegui import core

from mt5_bridge.core.errors import ChannelClosedError
from mt5_bridge.dashboard.app import WEB, create_app
from mt5_bridge.dashboard.sessions import COOKIE, Sessions

URL = "ws://127.0.0.1:9/none"


async def check(token: str) -> object:
    if token == "away":
        raise ChannelClosedError("nobody there")
    if token != "t":
        raise PermissionError("no")
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[tuple[httpx.AsyncClient, Sessions]]:
    """NiceGUI is one application a process: made once for the tests of this file."""
    sessions = Sessions(URL, check)
    app: Any = create_app(sessions)
    core.loop = None
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        yield client, sessions


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_without_a_session(made: tuple[httpx.AsyncClient, Sessions]) -> None:
    client, _ = made
    answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "Log in" in (await client.get("/login")).text
    assert (await client.get("/enter")).headers["location"] == "/login"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("token", "status", "words"), [("x", 401, "does not let in"), ("away", 503, "be reached")])
async def test_who_is_not_let_in_hears_why(
    made: tuple[httpx.AsyncClient, Sessions], token: str, status: int, words: str
) -> None:
    answer = await made[0].post("/login", data={"token": token})
    assert answer.status_code == status
    assert words in answer.text
    assert COOKIE not in answer.cookies


@pytest.mark.asyncio(loop_scope="module")
async def test_the_page_names_no_address_but_its_own(made: tuple[httpx.AsyncClient, Sessions]) -> None:
    client, sessions = made
    entered = await client.post("/login", data={"token": "t", "by": "ann"})
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    page = await client.get("/", headers={"cookie": f"{COOKIE}={entered.cookies[COOKIE]}"})
    assert page.status_code == 200
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text
    key = entered.cookies[COOKIE]
    await client.post("/logout", headers={"cookie": f"{COOKIE}={key}"})
    assert sessions.of(key) is None


@pytest.mark.asyncio(loop_scope="module")
async def test_files_are_asked_after(made: tuple[httpx.AsyncClient, Sessions]) -> None:
    for name in ("board.css", "theme.js", "favicon.svg"):
        answer = await made[0].get(f"/assets/{name}")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize("file", sorted(WEB.iterdir()), ids=lambda file: str(file.name))
def test_no_file_leads_out(file: Any) -> None:
    text = file.read_text(encoding="utf-8")
    assert "//cdn" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace('http-equiv="', "")
