"""Settings → the gateway, joined to one bridge. Loaded only where GATEWAY_ENABLED is set."""

from collections.abc import Callable

from mt5_bridge.app.early import reveal
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.door import Door
from mt5_bridge.gateway.app import create_app
from mt5_bridge.gateway.config import GatewayConfig
from mt5_bridge.gateway.server import GatewayServer
from mt5_bridge.journal.journal import Journal
from mt5_bridge.log import level_of
from mt5_bridge.settings import Settings


def gateway_config(settings: Settings) -> GatewayConfig:
    """The gateway's settings."""
    return GatewayConfig(
        host=settings.gateway_host,
        port=settings.mt5_bridge_port,
        token=reveal(settings.gateway_token),
        jwt_key=reveal(settings.gateway_jwt_key),
        tls_cert=settings.gateway_tls_cert,
        tls_key=settings.gateway_tls_key,
        allowed_hosts=settings.gateway_allowed_hosts,
        allowed_origins=settings.gateway_allowed_origins,
        allow_connect=settings.gateway_allow_connect,
        max_connections=settings.max_connections,
        rate_limit_requests=settings.rate_limit_requests,
        rate_limit_messages=settings.rate_limit_messages,
        heartbeat_s=settings.heartbeat_interval,
        bridge_id=settings.bridge_id,
        tells_looks=level_of(settings) in ("TRACE", "DEBUG"),
    )


async def open_gateway(
    settings: Settings, door: Door, journal: Journal, clock: Clock, *, on_defect: Callable[[BaseException], None]
) -> GatewayServer:
    """A gateway that listens.

    Raises:
        SettingsError: its address cannot be had, or its certificate cannot be used.
    """
    config = gateway_config(settings)
    server = GatewayServer(create_app(door, config, journal, now_ms=clock.now_ms), config, on_defect)
    await server.start()
    return server
