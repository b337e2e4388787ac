"""`mt5-bridge dashboard`: the page as a process of its own."""

import argparse
import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Sequence
from functools import partial
from urllib.parse import urlsplit

from loguru import logger

from mt5_bridge.client import check_token
from mt5_bridge.client.browsing import open_page
from mt5_bridge.core.errors import SettingsError

OK, FAILED, CONFIGURATION = 0, 1, 2
LISTEN = "127.0.0.1:8010"
MISSING = "The dashboard is not installed: pip install 'mt5-bridge[dashboard]'"
ENTRY_TOKEN = "DASHBOARD_TOKEN"  # noqa: S105 - a name, no secret
_STOP_S = 3


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mt5-bridge dashboard", description="A page to watch the bridge and to stop it from."
    )
    add = parser.add_argument
    add("--url", help="the gateway's WebSocket, or a backend's (default: this machine's gateway, by the settings)")
    add("--listen", default=LISTEN, metavar="HOST:PORT", help="where browsers connect (default %(default)s)")
    add("--allow-host", action="append", default=[], metavar="NAME", help="a name by which browsers may reach it")
    add("--allow-public", action="store_true", help="listen beyond this machine though the page is not encrypted")
    add("--certfile", help="speak https with this certificate")
    add("--keyfile", help="the certificate's key")
    add("--no-browser", action="store_true", help="do not open a browser")
    add("--until-eof", action="store_true", help="end when standard input ends")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command's entry. Exit codes: 0 ended as asked, 1 it could not be done, 2 wrong arguments or settings."""
    options = _parser().parse_args(argv)
    host, _, port = options.listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit():
        return _complain(f"--listen must be HOST:PORT, not {options.listen!r}", CONFIGURATION)
    public = host not in ("127.0.0.1", "localhost", "::1")
    if public and not (options.certfile or options.allow_public):
        why = f"--listen {options.listen} is reached from other machines: give --certfile, or --allow-public"
        return _complain(why, CONFIGURATION)
    try:
        url = options.url or _own_gateway()
    except SettingsError as error:
        return _complain(str(error), CONFIGURATION)
    logger.remove()
    logger.add(sys.stderr, level="INFO", format="{time:HH:mm:ss.SSS} {level: <7} {message}")
    try:
        import mt5_bridge.dashboard.app  # noqa: F401 - whether the extra is installed
    except ModuleNotFoundError as error:
        return _complain(f"{MISSING} ({error.name} is missing)", FAILED)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, int(port)), family=family)
    except OSError as error:
        return _complain(f"cannot listen on {options.listen}: {error}", FAILED)
    with listener:
        return asyncio.run(_serve(options, listener, url))


def _own_gateway() -> str:
    """The WebSocket of the gateway that the settings tell of."""
    from mt5_bridge.settings import load

    settings = load().settings
    host = settings.gateway_host
    name = "127.0.0.1" if host in ("", "0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 - compared
    scheme = "wss" if settings.gateway_tls_cert else "ws"
    return f"{scheme}://{name}:{settings.mt5_bridge_port}/websocket/ws"


async def _serve(options: argparse.Namespace, listener: socket.socket, url: str) -> int:
    import uvicorn

    from mt5_bridge.dashboard.app import create_app
    from mt5_bridge.dashboard.gate import Gate
    from mt5_bridge.dashboard.sessions import Sessions

    sessions = Sessions(url, partial(check_token, url), os.environ.get(ENTRY_TOKEN) or None)
    app = create_app(sessions, secure=bool(options.certfile))
    config = uvicorn.Config(
        Gate(app, options.allow_host),
        log_level="warning",
        access_log=False,
        ws="wsproto",
        ssl_certfile=options.certfile,
        ssl_keyfile=options.keyfile,
        timeout_graceful_shutdown=_STOP_S,
        server_header=False,
    )
    server = uvicorn.Server(config)
    if options.until_eof:
        _at_eof(server)
    address = _address(listener, secure=bool(options.certfile))
    entry = f"{address}enter#{sessions.entry_code}" if sessions.entry_code else address
    logger.bind(event="dashboard").info("Dashboard of {place}: {address}", place=urlsplit(url).netloc, address=address)
    # For programs that start this one: the address, in one line.
    sys.stdout.write(json.dumps({"dashboard": entry}) + "\n")
    sys.stdout.flush()
    if not options.no_browser:
        threading.Thread(target=open_page, args=(entry,), name="browser", daemon=True).start()
    await server.serve([listener])
    return OK


def _address(listener: socket.socket, *, secure: bool) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{shown}:{port}/"


def _at_eof(server: "object") -> None:
    def wait() -> None:
        # Not sys.stdin: its buffer's lock, held by a blocked read, would abort the interpreter's exit.
        while os.read(0, 4096):
            continue
        server.should_exit = True  # type: ignore[attr-defined]  # uvicorn's own flag, looked at ten times a second

    threading.Thread(target=wait, name="stdin-eof", daemon=True).start()


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"ERROR {text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
