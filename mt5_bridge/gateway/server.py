"""Runs the app with uvicorn in the daemon's loop: the port taken first, no signal handlers, a bounded end."""

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from loguru import logger

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.gateway.config import GatewayConfig
from mt5_bridge.gateway.http import CONNECTIONS_BESIDE, bounded
from mt5_bridge.gateway.hub.socket import HubSocket

BACKLOG = 512
KEEP_ALIVE_S = 75
"""Longer than the idle time of usual client pools: who asks once a minute keeps its connection."""
WS_MESSAGE_MOST = 65_536
PING_EVERY_S = 10.0
PONG_WITHIN_S = 10.0
"""A client that does not answer a ping in this time is gone, or reads nothing: its WebSocket is cut off."""
_STOP_LEAST_S = 0.1


class GatewayServer:
    """The gateway's door to the network.

    Args:
        app: what is served; its audit begins and ends with the server.
        config: where.
        on_defect: told when a part of the gateway ends by itself, which is a bug.
    """

    def __init__(self, app: FastAPI, config: GatewayConfig, on_defect: Callable[[BaseException], None]) -> None:
        self._app = app
        self._config = config
        self._on_defect = on_defect
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port listened at, also where the settings leave it open."""
        assert self._socket is not None
        found: int = self._socket.getsockname()[1]
        return found

    @property
    def url(self) -> str:
        """Where it is reached."""
        host = self._config.host
        return f"{self._config.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open, HTTP and WebSocket."""
        return 0 if self._server is None else len(self._server.server_state.connections)

    async def start(self) -> None:
        """Listen.

        Raises:
            SettingsError: the address cannot be had, or the certificate cannot be used.
        """
        config = self._config
        self._socket = bind(config)
        try:
            self._server = uvicorn.Server(self._settings())
        except BaseException:
            self._socket.close()
            raise
        self._server.lifespan = self._server.config.lifespan_class(self._server.config)
        await self._server.startup(sockets=[self._socket])
        self._task = asyncio.create_task(self._serve(self._server, self._socket), name="gateway")
        rooms = self._app.state.gateway
        for task in (self._task, rooms.audit.start(), rooms.connections.start()):
            task.add_done_callback(self._ended)
        logger.bind(event="gateway_listens", port=self.port).info("The gateway listens at {url}", url=self.url)

    async def stop(self, timeout: float) -> None:
        """Take no more, give what is under way some time, end what is left.

        Args:
            timeout: seconds, over all.
        """
        if self._server is None or self._task is None:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout

        def left(share: float = 1.0) -> float:
            return max(_STOP_LEAST_S, (until - loop.time()) * share)

        self._server.should_exit = True
        # uvicorn counts whole seconds only where it is asked to; what hangs is ended here.
        await asyncio.wait((self._task,), timeout=left(0.6))
        if not self._task.done():
            self._server.force_exit = True
            for task in tuple(self._server.server_state.tasks):
                task.cancel()
            await asyncio.wait((self._task,), timeout=left(0.5))
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        rooms = self._app.state.gateway
        await rooms.cache.close()
        await rooms.connections.stop(left(0.5))
        await rooms.audit.stop(left())

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_defect(error)

    async def _serve(self, server: uvicorn.Server, sock: socket.socket) -> None:
        """As `uvicorn.Server.serve`, without its signal handlers: signals are the daemon's."""
        await server.main_loop()
        await server.shutdown(sockets=[sock])

    def _settings(self) -> uvicorn.Config:
        config = self._config
        settings = uvicorn.Config(
            self._app,
            http=bounded(config.max_connections + CONNECTIONS_BESIDE),
            ws=HubSocket,
            ws_max_size=WS_MESSAGE_MOST,
            ws_ping_interval=PING_EVERY_S,
            ws_ping_timeout=PONG_WITHIN_S,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            ssl_context_factory=None if config.tls_cert is None else lambda *_: tls_of(config),
        )
        try:
            settings.load()
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"GATEWAY_TLS_CERT: the certificate or its key cannot be used ({error}); give PEM files that fit"
            ) from error
        return settings


def tls_of(config: GatewayConfig) -> ssl.SSLContext:
    """What the gateway proves itself with.

    Raises:
        OSError: a file cannot be read, the two do not fit, or the key is encrypted.
    """
    assert config.tls_cert is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Without a password of some kind OpenSSL would ask the console for that of an encrypted key, and wait.
    context.load_cert_chain(config.tls_cert, config.tls_key, password="")
    return context


def bind(config: GatewayConfig) -> socket.socket:
    """A socket at the gateway's address, for this process alone.

    Raises:
        SettingsError: somebody has it, or the address is none of this machine.
    """
    # Most programs go to 127.0.0.1 by that name, and the system may put ::1 before it.
    host = "127.0.0.1" if config.host.lower() == "localhost" else config.host
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise SettingsError(f"GATEWAY_HOST: {config.host!r} is no address ({error}); give 127.0.0.1") from error
    sock = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":
            # There SO_REUSEADDR would let another program take the port away.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise SettingsError(
            f"MT5_BRIDGE_PORT: {config.host}:{config.port} cannot be listened at ({error.strerror or error}); "
            "end the program that has it, or give another port"
        ) from error
    return sock
