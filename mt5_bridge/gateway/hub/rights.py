"""Which scope each message of a client needs."""

from collections.abc import Container

from mt5_bridge.control.commands import COMMANDS, EMERGENCY_STOP, MT5_COMMAND, TRADING_SIGNAL
from mt5_bridge.core.permission import Permission
from mt5_bridge.gateway.auth import Scope

_BY_PERMISSION = {
    Permission.READ: Scope.READ,
    Permission.STREAM: Scope.READ,
    Permission.TRADE: Scope.TRADE,
    Permission.HALT: Scope.ADMIN,
}
NEEDS: dict[str, Scope | None] = {
    **{name: None if spec.needs is None else _BY_PERMISSION[spec.needs] for name, spec in COMMANDS.items()},
    EMERGENCY_STOP: Scope.STOP,
    "reduce_only": Scope.STOP,
    TRADING_SIGNAL: Scope.TRADE,
}
"""The scope by command; None: being connected is enough."""


def permitted(name: str, scopes: Container[Scope]) -> bool:
    """Whether a client with these scopes may send this command."""
    needs = NEEDS[name]
    return needs is None or needs in scopes


def capabilities(scopes: Container[Scope]) -> list[str]:
    """What a client with these scopes may send."""
    return [*(name for name in NEEDS if permitted(name, scopes)), MT5_COMMAND, "account_info", "tick_data", "auth"]
