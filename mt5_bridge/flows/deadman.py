"""What the terminal's host did by itself while this daemon was dead: found, journalled, announced, forgotten.

The host leaves a report in DATA_DIR. Its orders enter the journal as those of an emergency stop do, so that what they
closed is explained and what became of an unknown one is looked up; the rest is said in one `halt_changed`.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
from loguru import logger

from mt5_bridge.core.deadman import REPORTS, Act, Report
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.intent import IntentState
from mt5_bridge.core.messages import HaltChanged
from mt5_bridge.core.times import iso
from mt5_bridge.flows.disk import DaemonExecutor
from mt5_bridge.flows.flatten import EMERGENCY
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.orders import Intent, OrderDesk, Sent, state_of
from mt5_bridge.flows.outbox import Outbox
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.rows import StoredIntent
from mt5_bridge.terminal import retcodes

TAKEN_MEMO = "deadman"
"""Ids of reports that are journalled and whose files may still be there."""
BY = "deadman"
_DISK_S = 2.0

T = TypeVar("T")


class DeadManReports:
    """Takes up what the terminal's host left in the folder.

    Args:
        folder: DATA_DIR.
        journal: for what is known already.
        outbox: where it is journalled and announced.
        latch: the halt state that the announcement names.
    """

    def __init__(self, folder: Path, journal: Journal, outbox: Outbox, latch: HaltLatch) -> None:
        self._folder = folder
        self._journal = journal
        self._outbox = outbox
        self._latch = latch
        self._disk = DaemonExecutor("deadman-reports")

    async def take_up(self) -> list[StoredIntent]:
        """Journal, announce and remove every report there is; what cannot be journalled now stays for the next time.

        Called when this daemon's own host is connected: no earlier one acts any more.

        Returns:
            Orders whose outcome is unknown, to be looked up.
        """
        try:
            found = await self._on_disk(partial(_read, self._folder))
        except (OSError, TimeoutError) as error:
            logger.bind(event="deadman_unreadable").error("ERROR reports cannot be read: {e!r}", e=error)
            return []
        unknown: list[StoredIntent] = []
        for path, content in found:
            try:
                unknown += await self._take(path, content)
            except (JournalError, OSError, TimeoutError) as error:
                logger.bind(event="deadman_waits", file=path.name).error(
                    "ERROR the report {file} waits: {e!r}", file=path.name, e=error
                )
        return unknown

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """In a thread, and not for ever: the folder may lie on a disk that hangs, and an account must be looked at."""
        async with asyncio.timeout(_DISK_S):
            return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    async def _take(self, path: Path, content: bytes) -> list[StoredIntent]:
        try:
            report = msgspec.json.decode(content, type=Report)
        except msgspec.DecodeError as error:
            kept = path.with_suffix(".unreadable")
            await self._on_disk(partial(path.replace, kept))
            logger.bind(event="deadman_unreadable").error(
                "ERROR the host acted by itself, and its report {file} cannot be read: {error}",
                file=kept.name,
                error=error,
            )
            return []
        memo = await self._journal.memo(TAKEN_MEMO)
        unknown: list[StoredIntent] = []
        if memo is None or report.id != memo.decode():
            unknown = await self._enter(report)
            _log(report)
        await self._on_disk(path.unlink)
        return unknown

    async def _enter(self, report: Report) -> list[StoredIntent]:
        magics = [act.magic for act in report.acts]
        known = await self._journal.intents_by_magic(magics)
        acts = [act for act in report.acts if act.magic not in known]
        await self._outbox.commit(
            *(change for act in acts for change in _journalled(report, act)),
            changes.Audited(at_msc=report.began_msc, who=BY, what=report.action, detail=report.why),
            changes.Memo(name=TAKEN_MEMO, value=report.id.encode()),
            self._outbox.event("halt_changed", self._message(report), event_id=report.id),
        )
        stored = await self._journal.intents_by_magic([act.magic for act in acts])
        return [intent for intent in stored.values() if IntentState(intent.state).open]

    def _message(self, report: Report) -> HaltChanged:
        return HaltChanged(
            state=self._latch.halt.state.value,
            phase="done",
            reason=f"dead-man's switch, {report.action}: {report.why}",
            by=BY,
            at=iso(report.began_msc),
            cancelled=report.cancelled,
            closed=report.closed,
            survivors=list(report.left),
            detail=report.detail or None,
        )


def _read(folder: Path) -> list[tuple[Path, bytes]]:
    return [(path, path.read_bytes()) for path in sorted(folder.glob(REPORTS))]


def _journalled(report: Report, act: Act) -> tuple[changes.Change, changes.Change]:
    intent = Intent(key=report.key, leg=act.leg, request=act.request, action=EMERGENCY, volume_before=act.volume_before)
    if act.answer is not None:
        state = state_of(retcodes.classify(act.answer), act.request, act.answer.order) or IntentState.REJECTED
        detail = act.answer.comment or None
    else:
        state = IntentState.UNKNOWN if act.sent else IntentState.REJECTED
        detail = act.detail or None
    sent = Sent(state=state, request=act.request, answer=act.answer, detail=detail, sent_msc=act.at_msc)
    return OrderDesk.opened(intent, act.at_msc), OrderDesk.moved(act.magic, sent, act.at_msc)


def _log(report: Report) -> None:
    logger.bind(event="deadman_acted", action=report.action, why=report.why).log(
        "ERROR" if report.left or report.ended_msc is None else "WARNING",
        "Dead-man's switch ({action}) at {at}, {why}: {cancelled} orders cancelled, {closed} positions closed, "
        "left: {left} {detail}",
        action=report.action,
        at=iso(report.began_msc),
        why=report.why,
        cancelled=len(report.cancelled),
        closed=len(report.closed),
        left=list(report.left) or "nothing",
        detail=report.detail,
    )
