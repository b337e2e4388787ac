"""Who did what by the gateway, when, and what came of it: append-only, in the journal."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from loguru import logger

from mt5_bridge.core.errors import JournalError
from mt5_bridge.journal import changes

MOST_WAITING = 10_000
_TEXT_MOST = 500
_BATCH = 200
_RETRY_S = 1.0


class Writing(Protocol):
    """What the audit needs of the journal."""

    async def commit(self, *batch: changes.Change) -> None: ...


@dataclass
class AuditStats:
    """Counters of the audit."""

    written: int = 0
    lost: int = 0
    """Told to the log only: the journal could not be written for a long time."""


class Audit:
    """Writes the audit trail in the background, in order.

    Args:
        journal: where it is kept.
        now_ms: the time, UTC.
    """

    def __init__(self, journal: Writing, now_ms: Callable[[], int]) -> None:
        self.stats = AuditStats()
        self._journal = journal
        self._now_ms = now_ms
        self._waiting: asyncio.Queue[changes.Audited] = asyncio.Queue(MOST_WAITING)
        self._task: asyncio.Task[None] | None = None

    def note(self, who: str, what: str, detail: str = "", *, told: bool = False) -> None:
        """Something was done; never waits.

        Args:
            who: the principal's subject.
            what: method and path, or the command's name.
            detail: what came of it, and the request's id.
            told: the log has it already.
        """
        entry = changes.Audited(
            at_msc=self._now_ms(),
            who=f"gateway:{who}"[:_TEXT_MOST],
            what=what[:_TEXT_MOST],
            detail=detail[:_TEXT_MOST],
        )
        logger.bind(event="gateway_audit", who=entry.who, what=entry.what).log(
            "DEBUG" if told else "INFO",
            "{what} by {who} ({detail})",
            who=entry.who,
            what=entry.what,
            detail=entry.detail,
        )
        try:
            self._waiting.put_nowait(entry)
        except asyncio.QueueFull:
            self.stats.lost += 1

    def start(self) -> "asyncio.Task[None]":
        """Begin to write; the task ends by itself with a defect only."""
        self._task = asyncio.create_task(self._write(), name="gateway-audit")
        return self._task

    async def stop(self, timeout: float) -> None:
        """Write what waits, and end."""
        if self._task is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._waiting.join()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < _BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            while True:
                try:
                    await self._journal.commit(*batch)
                except JournalError as error:
                    logger.bind(event="audit_not_written").warning(
                        "{count} entries of the audit wait: {error}", count=len(batch), error=error
                    )
                    await asyncio.sleep(_RETRY_S)
                else:
                    break
            self.stats.written += len(batch)
            for _ in batch:
                self._waiting.task_done()
