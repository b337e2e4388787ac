"""What the log says of a connection: what changed, not every attempt."""

import time
from collections.abc import Callable

from loguru import logger

from mt5_bridge.core.reminder import Reminder
from mt5_bridge.redpanda.config import LinkState

_STEADY_S = 5.0
"""A connection that ended younger changed nothing: it comes and goes, and the log need not count along."""


class LinkLog:
    """Tells when a connection comes and goes: each cause once, then a reminder a minute while it is away.

    Args:
        who: the connection's name for people.
        event: the log's event name.
        monotonic: clock in seconds.
        told: what has been told of the peer; one for several connections to it, of which one tells a cause for all.
    """

    def __init__(
        self, who: str, event: str, monotonic: Callable[[], float] = time.monotonic, *, told: Reminder | None = None
    ) -> None:
        self._who = who
        self._event = event
        self._monotonic = monotonic
        self._reminder = told or Reminder()
        self._told: LinkState | None = None
        self._up_since: float | None = None
        self._unsteady = False

    def tell(self, state: LinkState, detail: str) -> None:
        """Tells a state if it is news; to be repeated now and then while there is a connection.

        Args:
            state: where the connection stands.
            detail: with whom, or why not.
        """
        if self._news(state):
            self._told = state
            logger.bind(event=self._event, state=state.value, detail=detail).info(
                "{who} {state}: {detail}", who=self._who, state=state.value, detail=detail
            )

    def trouble(self, state: LinkState, cause: str) -> None:
        """Tells what is wrong, if it is news."""
        now = self._monotonic()
        if self._up_since is not None:
            self._unsteady = now - self._up_since < _STEADY_S
            if not self._unsteady:
                self._reminder.settled()
        self._up_since = None
        if self._reminder.due(cause, now):
            self._told = state
            logger.bind(event=self._event, state=state.value, detail=cause).warning(
                "{who} {state}: {cause}", who=self._who, state=state.value, cause=cause
            )

    def _news(self, state: LinkState) -> bool:
        if state is LinkState.CONNECTING:
            return self._told is None  # the later attempts are the reminders' business
        if state is LinkState.CONNECTED:
            now = self._monotonic()
            if self._up_since is None:
                self._up_since = now
            if self._unsteady and now - self._up_since < _STEADY_S:
                return False  # the last one did not last: wait and see
        return state is not self._told
