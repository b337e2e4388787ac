"""Which request something is done for: known where it came in, wanted where it is journalled and logged.

They follow the work into the tasks that are made for it. Where nothing was asked (a record of the topic, a rule of the
bridge's own) both are None.
"""

from contextvars import ContextVar

request: ContextVar[str | None] = ContextVar("mt5_bridge_request", default=None)
"""The request's id: its `X-Request-ID`, given or made."""

sender: ContextVar[str | None] = ContextVar("mt5_bridge_sender", default=None)
"""Who asked: the subject of the token."""
