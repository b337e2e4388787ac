"""`/`: where people begin who open the address in a browser. Tells nothing of the account, so it needs no token."""

from fastapi import APIRouter, Request, Response

from mt5_bridge.gateway.state import Here

router = APIRouter(tags=["service"])

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>MT5 Bridge</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body>
<h1>MT5 Bridge</h1>
<p>This is the bridge's gateway for programs. The dashboard is a program of its own; start it on this PC with</p>
<pre>mt5-bridge dashboard</pre>
<p>It prints its address and opens it. For programs: <a href="docs">Swagger</a>, <a href="redoc">ReDoc</a>,
<a href="health">health</a>.</p>
</body>
</html>
"""


@router.get(
    "/",
    summary="Where to go",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}, "description": "A page for people."}},
)
async def root(request: Request, gateway: Here) -> Response:
    """Says how the dashboard is started."""
    return Response(PAGE, media_type="text/html", headers={"Cache-Control": "no-cache"})
