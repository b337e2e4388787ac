"""What the gateway is told."""

from pathlib import Path

import msgspec

from mt5_bridge.settings.gateway_rules import is_loopback

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine in a Host header."""


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of the gateway.

    Attributes:
        host: the address listened at.
        port: its TCP port; 0: any free one.
        token: GATEWAY_TOKEN, may do everything; None: only JWTs are taken.
        jwt_key: signs JWTs (HS256); None: none are taken.
        tls_cert: PEM file with the certificate chain; None: no TLS.
        tls_key: PEM file with its key; None: it is in the certificate's file.
        allowed_hosts: further names that a Host header may give, without port.
        allowed_origins: further origins whose pages may ask, as a browser writes them.
        allow_connect: GATEWAY_ALLOW_CONNECT.
        max_connections: WebSocket clients at once.
        rate_limit_requests: requests of one token in a minute.
        rate_limit_messages: WebSocket messages of one client in a second.
        body_limit: bytes of a request's body.
        heartbeat_s: between heartbeats over the WebSocket.
        bridge_id: BRIDGE_ID.
        tells_looks: requests that only look have their line in the log, too: LOG_LEVEL=DEBUG.
    """

    host: str = "127.0.0.1"
    port: int = 8001
    token: str | None = None
    jwt_key: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    allow_connect: bool = False
    max_connections: int = 100
    rate_limit_requests: int = 1000
    rate_limit_messages: int = 100
    body_limit: int = 65_536
    heartbeat_s: float = 5.0
    bridge_id: str = "mt5-bridge"
    tells_looks: bool = True

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine can reach it."""
        return is_loopback(self.host)

    @property
    def scheme(self) -> str:
        """`https` where it speaks TLS."""
        return "http" if self.tls_cert is None else "https"
