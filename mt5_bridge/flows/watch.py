"""Watches over the bridge itself: health, loop stalls, memory, the rules that latch, what else must be noticed."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import psutil
from loguru import logger

from mt5_bridge.core import halt as machine
from mt5_bridge.core import risk, wire
from mt5_bridge.core.decision import Limits
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.halt import HaltState, Origin
from mt5_bridge.core.health import judge
from mt5_bridge.core.times import HOUR
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.disk import DaemonExecutor
from mt5_bridge.flows.emergency import Emergency, StopOptions
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.memos import recalled
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.port import Terminal
from mt5_bridge.terminal.probe import probe

T = TypeVar("T")

STOP_FILE = "EMERGENCY_STOP"
DAY_MEMO = "day"
TOLD_MEMO = "breaches"
STALL_LIMIT_MS = 50
_STALL_PERIOD_S = 0.1
_RULES_S = 0.2
_FILE_S = 0.5
_FILE_GOES_S = 0.05
_DAY_S = 5.0
_PROBE_S = 30.0
_WEIGHED_S = 1.0
"""Memory is looked at no more often, whoever asks how the bridge is."""
_PRUNE_S = 3600.0
KEEP_MS = 30 * 24 * HOUR
_SLEPT_S = 2.0


class Beating(Protocol):
    """What this flow needs of the WebSocket client."""

    def send_latest(self, slot: str, frame: bytes) -> None: ...


@dataclass
class WatchStats:
    """What the watch saw."""

    stalls: int = 0
    worst_stall_ms: float = 0.0
    rss_mb: float = 0.0
    probes_failed: int = 0
    pruned: int = 0


@dataclass(frozen=True)
class WatchConfig:
    """Settings of the watch.

    Attributes:
        heartbeat_s: HEARTBEAT_INTERVAL.
        data_dir: where the EMERGENCY_STOP file is looked for.
        drawdown_flattens: DRAWDOWN_ACTION=flatten.
        backend_dead_after_s: BACKEND_DEAD_AFTER; None: off.
        backend_dead_action: reduce, halt or flatten.
    """

    heartbeat_s: float
    data_dir: Path
    drawdown_flattens: bool
    backend_dead_after_s: float | None
    backend_dead_action: str


class Watch:
    """Health and rules.

    Args:
        limits: the trading limits now.
        channels: state of each channel by name, for the heartbeat.
        troubles: what does not work though its channel is up, in words.
        backend_seen: UTC ms of the last sign of life of the backend, None before the first.
        tick_age_ms: age of the last published tick when the broker had it.
    """

    def __init__(
        self,
        terminal: Terminal,
        journal: Journal,
        book: Book,
        latch: HaltLatch,
        emergency: Emergency,
        clock: Clock,
        config: WatchConfig,
        *,
        limits: Callable[[], Limits],
        channels: Callable[[], dict[str, str]],
        troubles: Callable[[], Iterable[str]] = tuple,
        backend_seen: Callable[[], int | None],
        tick_age_ms: Callable[[], int | None],
        control: Beating | None,
    ) -> None:
        self.stats = WatchStats()
        self._terminal = terminal
        self._journal = journal
        self._book = book
        self._latch = latch
        self._emergency = emergency
        self._clock = clock
        self._config = config
        self._limits = limits
        self._channels = channels
        self._troubles = troubles
        self._backend_seen = backend_seen
        self._tick_age_ms = tick_age_ms
        self._control = control
        self._began = clock.monotonic()
        self._weighed = self._began - _WEIGHED_S
        self._process = psutil.Process()
        self._stall_ms = 0.0
        self._saved_day: bytes | None = None
        self._told: set[tuple[str, str]] = set()
        self._saved_told: set[tuple[str, str]] = set()
        self._file_taken = self._file_stays = False
        self._disk = DaemonExecutor("watch-files")
        self._heard: tuple[int | None, float] = (None, self._began)
        self._looked = self._began
        self._to_write = asyncio.Event()

    # --- health

    def health(self) -> dict[str, Any]:
        """The `data` of a heartbeat."""
        now = self._clock.monotonic()
        if now - self._weighed >= _WEIGHED_S:
            self._weighed, self.stats.rss_mb = now, round(self._process.memory_info().rss / 1e6, 1)
        channels = self._channels()
        up = {name: state == "connected" for name, state in channels.items()}
        verdict = judge(
            self._book.readiness,
            up | {"journal": self._journal.healthy},
            troubles=self._troubles(),
            clock_skew_ms=self._terminal.clock.skew_ms,
            loop_stall_ms=self._stall_ms,
        )
        return {
            "status": verdict.status.value,
            "detail": "; ".join(verdict.why) or None,
            "halt": self._latch.halt.state.value,
            "channels": channels,
            "tick_age_ms": self._tick_age_ms(),
            "clock_skew_ms": self._terminal.clock.skew_ms,
            "rss_mb": self.stats.rss_mb,
            "loop_stall_ms": round(self._stall_ms, 1),
            "uptime_s": round(now - self._began, 1),
        }

    async def run_heartbeat(self) -> None:
        """Send the health every HEARTBEAT_INTERVAL."""
        while True:
            self.beat()
            await asyncio.sleep(self._config.heartbeat_s)

    def beat(self) -> None:
        """Send the health now: a backend that has just connected must not get the one made before that."""
        health = self.health()
        self._stall_ms = 0.0
        if self._control is not None:
            frame = wire.encode("heartbeat", health, now_msc=self._clock.now_ms())
            self._control.send_latest("heartbeat", frame)

    async def run_stalls(self) -> None:
        """Notice when the event loop stands still."""
        while True:
            due = self._clock.monotonic() + self._clock.until_beat(_STALL_PERIOD_S)
            await self._clock.until(due)
            late_ms = (self._clock.monotonic() - due) * 1000
            self._stall_ms = max(self._stall_ms, late_ms)
            if late_ms > STALL_LIMIT_MS:
                self.stats.stalls += 1
                self.stats.worst_stall_ms = max(self.stats.worst_stall_ms, late_ms)
                logger.bind(event="loop_stall", ms=round(late_ms)).warning(
                    "Event loop stood for {ms:.0f} ms", ms=late_ms
                )

    async def run_probe(self) -> None:
        """Probe the terminal every 30 s."""
        while True:
            await asyncio.sleep(_PROBE_S)
            found = await probe(self._terminal)
            if not (found.connection_ok and found.auth_ok):
                self.stats.probes_failed += 1
                logger.bind(event="probe_failed").warning("Terminal probe: {found}", found=found)

    async def run_housekeeping(self) -> None:
        """Forget what is settled and a month old."""
        while True:
            await asyncio.sleep(_PRUNE_S)
            try:
                self.stats.pruned += await self._journal.prune(self._clock.now_ms() - KEEP_MS)
            except JournalError as error:
                logger.bind(event="prune_failed").warning("Journal not pruned: {error}", error=error)

    # --- rules

    async def run_rules(self) -> None:
        """Judge the rules that latch, four times a second; what needs the disk must not hold up what does not."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._judge(), name="rules-judge")
            group.create_task(self._look_for_stop_file(), name="rules-file")
            group.create_task(self._write_down(), name="rules-journal")

    async def _judge(self) -> None:
        while True:
            self._judge_account()
            self._judge_backend()
            reducing = self._book.day is not None and self._latch.halt.state is HaltState.REDUCING
            if reducing or self._told != self._saved_told:
                self._to_write.set()
            await self._clock.beat(_RULES_S)

    async def _look_for_stop_file(self) -> None:
        while True:
            await self.look_for_stop_file()
            about_to_go = self._file_taken and not self._file_stays
            await (asyncio.sleep(_FILE_GOES_S) if about_to_go else self._clock.beat(_FILE_S))

    async def _write_down(self) -> None:
        while True:
            await self._to_write.wait()
            self._to_write.clear()
            await self._remember_told()
            await self._new_day()

    async def restore(self) -> None:
        """Which breaches have latched already: one that a person lifted is not latched again by a restart.

        Raises:
            JournalError: the journal cannot be read.
        """
        told = await recalled(self._journal, TOLD_MEMO, set[tuple[str, str]])
        if told is not None:
            self._told = self._saved_told = told

    async def run_day(self) -> None:
        """Keep the day's figures across restarts."""
        while True:
            await asyncio.sleep(_DAY_S)
            await self.save_day()

    async def save_day(self) -> None:
        """Write the day's figures when they changed."""
        if self._book.day is None:
            return
        value = msgspec.json.encode(self._book.day)
        if value == self._saved_day:
            return
        try:
            await self._journal.commit(changes.Memo(name=DAY_MEMO, value=value))
            self._saved_day = value
        except JournalError as error:
            logger.bind(event="day_not_saved").warning("The day's figures are not saved: {error}", error=error)

    async def _remember_told(self) -> None:
        if self._told == self._saved_told:
            return
        told = self._told
        try:
            await self._journal.commit(changes.Memo(name=TOLD_MEMO, value=msgspec.json.encode(sorted(told))))
            self._saved_told = told
        except JournalError as error:
            logger.bind(event="breaches_not_saved").warning("Breaches are not remembered yet: {e}", e=error)

    async def look_for_stop_file(self) -> None:
        """A file `EMERGENCY_STOP` in DATA_DIR stops, and is renamed."""
        file = self._config.data_dir / STOP_FILE
        if not await self._on_disk(file.exists):
            self._file_taken = self._file_stays = False
            return
        if not (self._file_taken and self._latch.halt.state is HaltState.HALTED):
            self._file_taken = True
            self._emergency.stop(
                reason=f"the file {STOP_FILE}", by="file", origin=Origin.LOCAL, options=self._emergency.defaults
            )
        # Until the stop is durable the file is what a crash would leave of it.
        if await self._latch.durable_within(None) and self._emergency.journalled:
            await self._set_aside(file)

    async def _set_aside(self, file: Path) -> None:
        try:
            taken = file.with_name(f"{STOP_FILE}.{self._clock.now_ms()}")
            await self._on_disk(partial(file.replace, taken))
        except OSError as error:
            if not self._file_stays:
                self._file_stays = True
                logger.bind(event="stop_file_stays").warning("{file} cannot be renamed: {e}", file=file, e=error)

    async def _on_disk(self, work: Callable[[], T]) -> T:
        """In a thread: the folder may lie on a disk that hangs."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    def _judge_account(self) -> None:
        day, account, limits = self._book.day, self._book.account, self._limits()
        if day is None or account is None or not self._book.reconciled.is_set():
            return
        if not (self._book.readiness.connected and risk.settled(day, account.balance, account.credit)):
            return  # what a terminal without its server shows is no loss
        loss = risk.daily_loss_breached(day, account.equity, limits)
        if loss is not None and self._first("daily_loss", f"{day.date} {day.accepted}"):
            self._latch.tighten(
                machine.reduce(
                    self._latch.halt,
                    reason=loss.detail,
                    by="daily_loss",
                    at_msc=self._clock.now_ms(),
                    origin=Origin.RULE,
                    until_day=day.date,
                )
            )
        fallen = risk.drawdown_breached(day, account.equity, limits)
        if fallen is not None and self._first("drawdown", f"{day.peak_equity} {day.accepted}"):
            self._stop("drawdown", fallen.detail, flatten=self._config.drawdown_flattens)

    def _judge_backend(self) -> None:
        after = self._config.backend_dead_after_s
        if after is None:
            return
        now, seen = self._clock.monotonic(), self._backend_seen()
        slept, self._looked = now - self._looked > _SLEPT_S, now
        if slept or seen != self._heard[0]:
            # While this loop stood still nobody could be heard; and a step of the wall clock is no silence.
            self._heard = (seen, now)
        silent = now - self._heard[1]
        if silent <= after:
            self._told = {told for told in self._told if told[0] != "backend_dead"}
            return
        if not self._first("backend_dead", ""):
            return
        reason = f"no sign of life from the backend for {silent:.0f} s"
        if self._config.backend_dead_action == "reduce":
            self._latch.tighten(
                machine.reduce(
                    self._latch.halt,
                    reason=reason,
                    by="backend_dead",
                    at_msc=self._clock.now_ms(),
                    origin=Origin.RULE,
                )
            )
        else:
            self._stop("backend_dead", reason, flatten=self._config.backend_dead_action == "flatten")

    def _stop(self, rule: str, reason: str, *, flatten: bool) -> None:
        options = StopOptions(scope=self._emergency.defaults.scope) if flatten else None
        self._emergency.stop(reason=reason, by=rule, origin=Origin.RULE, options=options)

    def _first(self, rule: str, occasion: str) -> bool:
        """A rule latches once an occasion: a person who resumed all the same is not overruled by the same breach."""
        if (rule, occasion) in self._told:
            return False
        self._told = {told for told in self._told if told[0] != rule} | {(rule, occasion)}
        return True

    async def _new_day(self) -> None:
        if self._book.day is None or self._latch.halt.state is not HaltState.REDUCING:
            return
        new = self._latch.day_changed(self._book.day.date, self._clock.now_ms())
        if new is not None:
            try:
                await self._latch.loosen(new)
            except JournalError as error:
                logger.bind(event="day_latch_stays").warning("Still reducing: {error}", error=error)
