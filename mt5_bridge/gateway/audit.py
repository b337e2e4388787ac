"""Who did what by the gateway, when, and what came of it: append-only, in the journal."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import msgspec
from loguru import logger

from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.times import MINUTE
from mt5_bridge.journal import changes

MOST_WAITING = 10_000
_TEXT_MOST = 500
_BATCH = 200
_RETRY_S = 1.0
_LOOK_S = 60.0
ALIKE_A_MINUTE = 60
"""A stop is never limited away, but who may do nothing else must not fill the disk: more are written as a number."""
_KINDS_MOST = 1_000


class Writing(Protocol):
    """What the audit needs of the journal."""

    async def commit(self, *batch: changes.Change) -> None: ...


@dataclass
class AuditStats:
    """Counters of the audit."""

    written: int = 0
    lost: int = 0
    """Told to the log only: the journal could not be written for a long time."""
    joined: int = 0
    """Written as a number only: the same was done too often."""


@dataclass
class _Kind:
    """How often somebody has done the same within a minute."""

    minute: int
    times: int = 0
    last: changes.Audited | None = None
    """The last that was not written by itself."""


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
        self._kinds: dict[tuple[str, str], _Kind] = {}
        self._waiting: asyncio.Queue[changes.Audited] = asyncio.Queue(MOST_WAITING)
        self._task: asyncio.Task[None] | None = None

    def note(self, who: str, what: str, detail: str = "", *, told: bool = False, unlimited: bool = False) -> None:
        """Something was done; never waits.

        Args:
            who: the principal's subject.
            what: method and path, or the command's name.
            detail: what came of it, and the request's id.
            told: the log has it already.
            unlimited: no rate keeps it within bounds: of too many a number is written.
        """
        self._minute_over()
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
        if not unlimited:
            self._put(entry)
            return
        kind = self._kinds.setdefault((entry.who, entry.what), _Kind(self._minute()))
        kind.times += 1
        if kind.times <= ALIKE_A_MINUTE:
            self._put(entry)
        else:
            self.stats.joined += 1
            kind.last = entry

    def _minute_over(self, *, ended: bool = False) -> None:
        """Write how often it was, of minutes that are over; at the end, or of too many kinds, of all."""
        minute, all_of_them = self._minute(), ended or len(self._kinds) >= _KINDS_MOST
        for key, kind in [each for each in self._kinds.items() if all_of_them or each[1].minute != minute]:
            del self._kinds[key]
            if kind.last is not None:
                more = f"{kind.times - ALIKE_A_MINUTE} more within a minute, the last: {kind.last.detail}"
                self._put(msgspec.structs.replace(kind.last, detail=more[:_TEXT_MOST]))

    def _minute(self) -> int:
        return self._now_ms() // MINUTE

    def _put(self, entry: changes.Audited) -> None:
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
        self._minute_over(ended=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._waiting.join()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _next(self) -> changes.Audited:
        while True:
            try:
                async with asyncio.timeout(_LOOK_S):
                    return await self._waiting.get()
            except TimeoutError:
                self._minute_over()

    async def _write(self) -> None:
        while True:
            batch = [await self._next()]
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
