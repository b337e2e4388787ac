"""The web application: log in, the page, its files."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from string import Template
from typing import Any

import nicegui.elements.echart  # noqa: F401 - registers the ECharts that NiceGUI ships
from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from nicegui import Client, ui
from nicegui.element import Element
from nicegui.events import GenericEventArguments

from mt5_bridge import __version__
from mt5_bridge.core.errors import ChannelClosedError
from mt5_bridge.dashboard.sessions import COOKIE, LIFETIME_S, Session, Sessions

WEB = Path(__file__).parent / "web"
TITLE = "MT5 Bridge"
RECONNECT_S = 20.0
"""How long a page that went silent is kept for the browser to come back; a slow machine needs some to load it first."""
_LONGEST_NAME = 60
_HEAD = '<link rel="stylesheet" href="/assets/board.css"><script src="/assets/theme.js"></script>'


class Page(Element, component="web/board.js", esm={"mt5-board": "web"}):
    """The page in one browser: what the feed tells goes in, what the person asks comes out."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self._work: set[asyncio.Task[None]] = set()
        self._props["person"] = session.by
        self._props["version"] = __version__
        self.on("ready", self._ready)
        self.on("ask", self._ask)

    def _ready(self) -> None:
        """The browser can draw; after a lost connection it says so again."""
        self._session.feed.detach(self.tell)
        self._session.feed.attach(self.tell)

    def tell(self, patch: dict[str, Any]) -> None:
        """Hand a patch to the browser."""
        if self.is_deleted:
            self._session.feed.detach(self.tell)
            return
        self.run_method("take", patch)

    def _ask(self, event: GenericEventArguments) -> None:
        asked = event.args if isinstance(event.args, dict) else {}
        task = asyncio.create_task(self._answer(asked), name="page-ask")
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _answer(self, asked: dict[str, Any]) -> None:
        data = asked.get("data")
        answer = await self._session.feed.ask(
            str(asked.get("type")), data if isinstance(data, dict) else {}, by=self._session.by
        )
        if not self.is_deleted:
            self.run_method("answered", asked.get("id"), answer)

    def leave(self) -> None:
        """The browser is gone for good."""
        self._session.feed.detach(self.tell)


def create_app(sessions: Sessions, *, secure: bool = False) -> FastAPI:
    """The application.

    Args:
        sessions: who is logged in.
        secure: it is reached by https, so the cookie is sent by that alone.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        await sessions.close()

    app = FastAPI(title=TITLE, docs_url=None, redoc_url=None, openapi_url=None, lifespan=life)
    app.mount("/assets", _Fresh(directory=WEB), name="assets")
    _add_login(app, sessions, secure=secure)

    @ui.page("/", title=TITLE, reconnect_timeout=RECONNECT_S)
    def index(request: Request, client: Client) -> Response | None:
        session = sessions.of(request.cookies.get(COOKIE))
        if session is None or session.feed.refused:
            return RedirectResponse("/login", 303)
        ui.add_head_html(_HEAD)
        page = Page(session)
        client.on_delete(page.leave)
        return None

    ui.run_with(
        app,
        title=TITLE,
        favicon=WEB / "favicon.svg",
        dark=None,
        language="en-US",
        tailwind=False,
        reconnect_timeout=RECONNECT_S,
        show_welcome_message=False,
    )
    return app


def _add_login(app: FastAPI, sessions: Sessions, *, secure: bool) -> None:
    login_page = Template((WEB / "login.html").read_text(encoding="utf-8"))

    def form(problem: str = "", status: int = 200) -> HTMLResponse:
        shown = f'<p class="problem" role="alert" id="problem">{problem}</p>' if problem else ""
        return HTMLResponse(login_page.substitute(problem=shown), status, {"cache-control": "no-store"})

    @app.get("/login")
    async def show_login() -> HTMLResponse:
        return form()

    @app.get("/enter")
    async def enter() -> Response:
        # The code stands behind the #, where no log and no referrer sees it; a script on the page sends it on.
        return form() if sessions.entry_code else RedirectResponse("/login", 303)

    @app.post("/login")
    async def log_in(token: str = Form(""), by: str = Form("")) -> Response:
        try:
            session = await sessions.log_in(token.strip(), by.strip()[:_LONGEST_NAME] or "dashboard")
        except PermissionError as error:
            wait = "too many" in str(error)
            text = "Too many wrong tokens. Wait a minute." if wait else "This token does not let in."
            return form(text, 429 if wait else 401)
        except ChannelClosedError:
            return form("The bridge cannot be reached. Is it running, and is its gateway on?", 503)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, session.key, max_age=int(LIFETIME_S), httponly=True, samesite="strict", secure=secure)
        return answer

    @app.post("/logout")
    async def log_out(request: Request) -> Response:
        await sessions.log_out(request.cookies.get(COOKIE))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer


class _Fresh(StaticFiles):
    """Files that a browser asks after each time: they change with the program."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["cache-control"] = "no-cache"
        return response
