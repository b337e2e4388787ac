"""Swagger UI and ReDoc.

Their files come with a package: a trader's PC may have no internet, and no script of strangers runs on these pages.
"""

import html
import json
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from mt5_bridge.gateway.auth import NeedsUnlessOpen, Scope
from mt5_bridge.gateway.problems import Problem

router = APIRouter(include_in_schema=False, dependencies=[Depends(NeedsUnlessOpen(Scope.READ))])

OPENAPI = "/openapi.json"
ASSETS: dict[str, str] = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
}
_OWN: dict[str, tuple[str, str]] = {
    "swagger.js": (
        "text/javascript",
        f"""SwaggerUIBundle({{
  url: "{OPENAPI}", dom_id: "#swagger", deepLinking: true, persistAuthorization: false, displayRequestDuration: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset].filter(Boolean),
}});
""",
    ),
    "redoc.js": (
        "text/javascript",
        f'Redoc.init("{OPENAPI}", {{}}, document.getElementById("redoc"));\n',
    ),
}
PATHS = ("/docs", "/redoc", OPENAPI, *(f"/docs/assets/{name}" for name in (*ASSETS, *_OWN)))
"""All of it, for who decides what needs no token."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_KEEP = "private, max-age=86400"


@router.get("/docs")
async def swagger(request: Request) -> Response:
    """Swagger UI."""
    head = '<link rel="stylesheet" href="/docs/assets/swagger-ui.css">'
    return _page(request, head, "swagger", "swagger-ui-bundle.js", "swagger.js")


@router.get("/redoc")
async def redoc(request: Request) -> Response:
    """ReDoc."""
    return _page(request, "<style>body{margin:0}</style>", "redoc", "redoc.standalone.js", "redoc.js")


@router.get(OPENAPI)
async def openapi(request: Request) -> Response:
    """The description itself."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        # Once: whoever needs no token could have the loop busy with it.
        state.openapi = json.dumps(request.app.openapi()).encode()
    return Response(state.openapi, media_type="application/json")


@router.get("/docs/assets/{name}")
async def asset(name: str) -> Response:
    """A file of the pages."""
    if name in _OWN:
        kind, text = _OWN[name]
        return Response(text, media_type=kind)
    kind = ASSETS.get(name, "")
    if not kind:
        raise Problem(404, "not_found", "there is no such file")
    return Response(_packaged(name), media_type=kind, headers={"Cache-Control": _KEEP})


@cache
def _packaged(name: str) -> bytes:
    return (files("fastapi_offline") / "static" / name).read_bytes()


def _page(request: Request, head: str, where: str, *scripts: str) -> Response:
    app: Any = request.app
    tags = "".join(f'<script src="/docs/assets/{script}"></script>' for script in scripts)
    text = (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(app.title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{head}</head>'
        f'<body><div id="{where}"></div>{tags}</body></html>'
    )
    return Response(text, media_type="text/html", headers={"Content-Security-Policy": _POLICY})
