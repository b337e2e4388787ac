"""Which of the same old news deserve a line again. Pure; time comes in."""

EVERY_S = 60.0
_MOST = 16


class Reminder:
    """Lets each new text through at once, and then one text a minute, whichever it is.

    A peer that is away gives the same few causes many times a minute: the first of each is news, the rest is noise.

    Args:
        every: seconds between two reminders.
    """

    def __init__(self, every: float = EVERY_S) -> None:
        self._every = every
        self._told: set[str] = set()
        self._last = 0.0

    def due(self, text: str, now: float) -> bool:
        """True: tell it now.

        Args:
            text: what would be told.
            now: monotonic seconds.
        """
        if self._told and now - self._last < self._every and (text in self._told or len(self._told) >= _MOST):
            return False
        self._told.add(text)
        self._last = now
        return True

    def settled(self) -> bool:
        """The trouble is over: the next text is news again. True when there was something told of it."""
        troubled = bool(self._told)
        self._told.clear()
        return troubled
