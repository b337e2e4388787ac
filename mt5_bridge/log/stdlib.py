"""What libraries say through `logging`, led into loguru at a bounded rate."""

import logging
import time
from collections.abc import Callable

from loguru import logger

BURST = 5
WINDOW_S = 60.0
_MAX_KEYS = 512


class _Window:
    __slots__ = ("count", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.count = 0


class LibraryHandler(logging.Handler):
    """Passes records on; of each kind (logger, level, template) at most `BURST` within `WINDOW_S` seconds.

    A client that cannot reach its server says so many times a second: the first few are news, the rest is a number.

    Attributes:
        suppressed: records not passed on.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.suppressed = 0
        self._monotonic = monotonic
        self._windows: dict[tuple[str, int, str], _Window] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Passes a record on, unless there were too many alike."""
        alike = self._admit((record.name, record.levelno, str(record.msg)))
        if alike is None:
            self.suppressed += 1
            return
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a library's template and arguments do not match
            text = f"{record.msg!s} {record.args!r}"
        if alike:
            text += f" (and {alike} alike before it)"
        level = record.levelname if record.levelname in _LEVELS else record.levelno
        logger.opt(exception=record.exc_info).bind(event="library", library=record.name).log(
            level, "{library}: {text}", library=record.name, text=text
        )

    def _admit(self, key: tuple[str, int, str]) -> int | None:
        """None: too many. Else how many alike were left out before this one."""
        now = self._monotonic()
        window = self._windows.get(key)
        missed = 0
        if window is None or now - window.since >= WINDOW_S:
            missed = max(0, window.count - BURST) if window else 0
            if len(self._windows) >= _MAX_KEYS:
                self._windows.clear()
            window = self._windows[key] = _Window(now)
        window.count += 1
        return missed if window.count <= BURST else None


_LEVELS = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})
