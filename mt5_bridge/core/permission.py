"""What the backend's commands may do here. An emergency stop needs no permission."""

from enum import StrEnum


class Permission(StrEnum):
    """A kind of command that BACKEND_PERMISSIONS allows."""

    READ = "read"
    STREAM = "stream"
    """What is streamed: `subscribe`, `unsubscribe`."""
    SIGNAL = "signal"
    """`trading_signal` over the WebSocket."""
    TRADE = "trade"
    """A person's own trades: closing, cancelling, changing stops."""
    HALT = "halt"
    """`reduce_only`, `resume_trading`."""


ALL = tuple(str(permission) for permission in Permission)
