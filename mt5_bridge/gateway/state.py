"""What the routes share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from mt5_bridge.core.figures import Figures
from mt5_bridge.gateway import figures
from mt5_bridge.gateway.audit import Audit
from mt5_bridge.gateway.auth import Authenticator
from mt5_bridge.gateway.cache import Cache
from mt5_bridge.gateway.config import GatewayConfig
from mt5_bridge.gateway.hub.connection import Connections
from mt5_bridge.gateway.hub.hub import Hub
from mt5_bridge.gateway.port import BridgePort
from mt5_bridge.gateway.rates import Rates
from mt5_bridge.gateway.reads import Reads
from mt5_bridge.gateway.requests import Requests
from mt5_bridge.gateway.shield import ShieldStats


@dataclass
class Gateway:
    """The rooms of one app; in a route: `gateway: Here`."""

    port: BridgePort
    config: GatewayConfig
    auth: Authenticator
    rates: Rates
    audit: Audit
    now_ms: Callable[[], int]
    hub: Hub
    connections: Connections
    stats: ShieldStats = field(default_factory=ShieldStats)
    requests: Requests = field(default_factory=Requests)
    cache: Cache = field(default_factory=Cache)
    reads: Reads = field(init=False)

    def __post_init__(self) -> None:
        self.reads = Reads(self.port, self.cache, self.now_ms)
        self.connections.on_written = self.reads.written

    async def figures(self) -> Figures:
        """All that is measured, the bridge's figures and the gateway's own."""
        return await self.port.figures() | figures.own(self)


async def gateway_of(connection: HTTPConnection) -> Gateway:
    """The gateway that a request or WebSocket came to."""
    found: Gateway = connection.app.state.gateway
    return found


Here = Annotated[Gateway, Depends(gateway_of)]
