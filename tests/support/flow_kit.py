"""The flows of a bridge, joined as the bridge joins them, over a real journal and a terminal in memory.

    @simulated
    async def test_fills(tmp_path):
        async with FlowKit.open(tmp_path) as kit:
            await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09)
            assert (await kit.result("s1"))["status"] == "filled"

`FlowKit.open` runs the reconciliation only; `kit.run("outbox-redpanda", "rules", ...)` starts further flows by the
names that the bridge gives them. `kit.crash()` abandons a kit as a killed process would: `FlowKit.open` with the same
folder, terminal, producer and channel is the next life.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from aiokafka.record.default_records import DefaultRecordBatch
from support.eventually import eventually
from support.fake_terminal import START_MS, FakeTerminal
from support.simulated import outside_work

from mt5_bridge.app.rooms import Headers
from mt5_bridge.core import halt as machine
from mt5_bridge.core import wire
from mt5_bridge.core.decision import Day, Limits
from mt5_bridge.core.errors import BrokerError, ChannelClosedError, JournalError
from mt5_bridge.core.halt import Halt, HaltState, Origin
from mt5_bridge.core.permission import Permission
from mt5_bridge.core.ticks import Framed
from mt5_bridge.flows.account import AccountFlow
from mt5_bridge.flows.answers import Answers
from mt5_bridge.flows.bar_ways import SocketWay, TopicWay
from mt5_bridge.flows.bars import BarFlow
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.commands import Commands
from mt5_bridge.flows.control import ControlFlow
from mt5_bridge.flows.corrections import Corrections
from mt5_bridge.flows.deadman import DeadManReports
from mt5_bridge.flows.emergency import Emergency, StopOptions
from mt5_bridge.flows.exits import Exits
from mt5_bridge.flows.fanout import Fanout
from mt5_bridge.flows.judge import Judge
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.local import LocalControl
from mt5_bridge.flows.orders import OrderDesk
from mt5_bridge.flows.outbox import Outbox
from mt5_bridge.flows.protect import StopGuard
from mt5_bridge.flows.reconcile import Reconciler
from mt5_bridge.flows.settle import Settler
from mt5_bridge.flows.signals import Intake
from mt5_bridge.flows.ticks import TickFlow
from mt5_bridge.flows.trader import Trader
from mt5_bridge.flows.trailing import Trailing
from mt5_bridge.flows.watch import DAY_MEMO, Watch, WatchConfig
from mt5_bridge.journal.changes import Change
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.latchfile import LatchFile
from mt5_bridge.redpanda.batch import stored
from mt5_bridge.terminal.port import Terminal, TerminalState

LOGIN = 1001
MAGIC = 235
BARS = "bar_data"
EVENTS, TICKS, DLQ, SIGNALS = "mt5_events", "tick_data", "trading_signals.dlq", "trading_signals"
LIMITS = Limits(trading_enabled=True, account=LOGIN, max_daily_trades=None, throttle_latch=None)
_BEGAN = "kit_began"

Step = Callable[[str], Coroutine[Any, Any, None]]


def clock_of_loop() -> Clock:
    """A clock that goes with the running loop's, real or simulated; its wall time begins near `START_MS`."""
    loop = asyncio.get_running_loop()
    began = getattr(loop, _BEGAN, None)
    if began is None:
        began = loop.time()
        setattr(loop, _BEGAN, began)
    return Clock(now_ms=lambda: START_MS + round((loop.time() - began) * 1000), monotonic=loop.time)


@dataclass(frozen=True)
class FakeRecord:
    """A record of the signal topic."""

    value: bytes | None
    offset: int
    key: bytes | None = None
    timestamp_ms: int = -1
    partition: int = 0
    topic: str = SIGNALS
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True)
class Published:
    """What the broker got."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def json(self) -> dict[str, Any]:
        assert self.value is not None
        decoded: dict[str, Any] = json.loads(self.value)
        return decoded


class FakeProducer:
    """A broker that takes everything, unless told otherwise.

    Attributes:
        records: what was acknowledged, in order.
        error: raised by every publish while set; nothing is taken.
        hang: while set, publishes wait for it.
        full: while set, it takes nothing without being waited for.
        connected: while False `wait_connected` waits, and publishes fail.
    """

    def __init__(self) -> None:
        self.records: list[Published] = []
        self.error: BrokerError | None = None
        self.hang: asyncio.Event | None = None
        self.full = False
        self._up = asyncio.Event()
        self._up.set()

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    @connected.setter
    def connected(self, up: bool) -> None:
        if up:
            self._up.set()
        else:
            self._up.clear()

    async def wait_connected(self) -> None:
        await self._up.wait()

    async def publish(
        self,
        topic: str,
        key: bytes | None,
        records: Sequence[tuple[int | None, bytes | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        if self.hang is not None:
            await self.hang.wait()
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if not self.connected:
            raise BrokerError("the broker is away")
        self.records += [Published(topic, key, value, stamp, tuple(headers)) for stamp, value in records]

    def offer(
        self,
        topic: str,
        key: bytes | None,
        records: Sequence[tuple[int | None, bytes | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> asyncio.Future[None] | None:
        if self.full:
            return None
        return asyncio.ensure_future(self.publish(topic, key, records, headers))

    async def publish_framed(self, topic: str, key: bytes, batches: Sequence[Framed]) -> None:
        for batch in batches:
            for record in DefaultRecordBatch(bytes(stored(batch))):
                assert record.key == key
                await self.publish(topic, key, [(record.timestamp, record.value)], record.headers)

    async def publish_one(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        await self.publish(topic, key, [(timestamp_ms, value)], headers)

    def of(self, topic: str, type: str | None = None) -> list[dict[str, Any]]:
        """The decoded records of a topic, of one message type if named."""
        found = [record.json for record in self.records if record.topic == topic]
        return [frame for frame in found if type in (None, frame.get("type"))]


class FakeChannel:
    """A WebSocket to a backend that reads everything, unless told otherwise.

    Attributes:
        frames: frames sent, in order, conflated ones included.
        latest: the newest frame per slot.
        accepting: False: `send` is refused, as with a full queue.
        room: bytes of the largest frame that is taken.
        confirming: False: no pong comes, `send_confirmed` fails.
        last_seen_msc: what the watch reads.
    """

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.urgent: list[bytes] = []
        self.latest: dict[str, bytes] = {}
        self.accepting = True
        self.room = 1 << 30
        self.confirming = True
        self.last_seen_msc: int | None = None
        self._up = asyncio.Event()
        self._up.set()

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    @connected.setter
    def connected(self, up: bool) -> None:
        if up:
            self._up.set()
        else:
            self._up.clear()

    async def wait_connected(self) -> None:
        await self._up.wait()

    def send(self, frame: bytes, *, urgent: bool = False, brief: bool = False) -> bool:
        if not (self.accepting and self.connected) or (len(frame) > self.room and not brief):
            return False
        self.frames.append(frame)
        if urgent:
            self.urgent.append(frame)
        return True

    def send_latest(self, slot: str, frame: bytes) -> None:
        self.latest[slot] = frame
        if self.connected:
            self.frames.append(frame)

    async def send_confirmed(self, frame: bytes) -> None:
        await asyncio.sleep(0)
        if not (self.confirming and self.connected):
            raise ChannelClosedError("the backend went away")
        self.frames.append(frame)

    async def send_run_confirmed(self, frames: Sequence[bytes]) -> int:
        sent = 0
        for frame in frames[:-1]:
            if not self.send(frame):
                break
            sent += 1
        if sent < len(frames) - 1:
            if not sent:
                raise ChannelClosedError("too many frames wait for the backend")
            return sent
        await self.send_confirmed(frames[-1])
        return len(frames)

    def of(self, type: str) -> list[dict[str, Any]]:
        """The decoded frames of a type."""
        return [frame for frame in map(json.loads, self.frames) if frame["type"] == type]


class KitJournal(Journal):
    """The real journal, with a disk that can be broken and a hook around every call.

    Attributes:
        broken: words of the fault with which writes fail; None: they work.
        step: awaited with a name before and after every call.
    """

    broken: str | None = None
    step: Step | None = None

    async def commit(self, *changes: Change) -> None:
        names = "+".join(type(change).__name__ for change in changes)
        await self._step(f"commit {names}")
        if self.broken is not None:
            raise JournalError(self.broken)
        with outside_work():
            await super().commit(*changes)
        await self._step(f"committed {names}")

    async def prune(self, before_msc: int) -> int:
        with outside_work():
            return await super().prune(before_msc)

    async def age_out(self, channel: str, before_msc: int) -> int:
        with outside_work():
            return await super().age_out(channel, before_msc)

    async def close(self, timeout: float = 5.0) -> None:
        with outside_work():
            await super().close(timeout)

    def break_down(self, words: str = "database or disk is full") -> None:
        """From now on nothing can be written, and those who asked to know are told."""
        self.broken = words
        self._health_changed(False, words)

    def mend(self) -> None:
        """Writing works again."""
        self.broken = None
        self._health_changed(True, "")

    async def _read(self, look_up: Any) -> Any:
        await self._step(f"read {getattr(look_up, '__name__', getattr(look_up, 'func', look_up))!s}")
        return await super()._read(look_up)

    async def _step(self, name: str) -> None:
        if self.step is not None:
            await self.step(name)


@dataclass
class KitSettings:
    """What the bridge's settings would say."""

    channels: tuple[str, ...] = ("redpanda", "websocket")
    simulate: bool = False
    settle_window_s: float = 10.0
    hmac_keys: tuple[str, ...] = ()
    magic: int = MAGIC
    deviation_points: int = 20
    stop: StopOptions = field(default_factory=StopOptions)
    stop_grace_s: float = 2.0
    account_interval_s: float = 5.0
    heartbeat_s: float = 5.0
    symbols: tuple[str, ...] = ("EURUSD",)
    tick_hz: float = 10.0
    latest_only: bool = False
    backfill_ms: int = 0
    bars: tuple[str, ...] = ()
    hybrid: bool = True
    remote_resume: bool = False
    permitted: frozenset[Permission] = frozenset(Permission)
    drawdown_flattens: bool = False
    backend_dead_after_s: float | None = None
    backend_dead_action: str = "reduce"
    zone: str = "UTC"
    send_timeout_s: float = 30.0


class FlowKit:
    """Every flow of a bridge, by the names they have in the bridge. Made by `FlowKit.open`."""

    def __init__(
        self,
        folder: Path,
        terminal: FakeTerminal,
        journal: KitJournal,
        producer: FakeProducer,
        channel: FakeChannel,
        limits: Limits,
        settings: KitSettings,
    ) -> None:
        self.folder, self.terminal, self.journal = folder, terminal, journal
        self.producer, self.channel = producer, channel
        self.limits, self.settings = limits, settings
        self.clock = clock_of_loop()
        self.defects: list[BaseException] = []
        self.alarms: list[str] = []
        self.login: str | None = str(LOGIN)
        self.states: dict[str, str] = {"terminal": "connected", "redpanda": "connected", "backend": "connected"}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._offsets = count()
        self._before = asyncio.all_tasks()
        terminal.keep_time(self.clock.now_ms)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        *,
        terminal: FakeTerminal | None = None,
        producer: FakeProducer | None = None,
        channel: FakeChannel | None = None,
        limits: Mapping[str, Any] | None = None,
        ready: bool = True,
        reconcile: bool = True,
        step: Step | None = None,
        **settings: Any,
    ) -> AsyncIterator["FlowKit"]:
        """A kit, closed in order at the end unless it crashed; a defect fails the test.

        Args:
            folder: DATA_DIR.
            terminal: of an earlier life, or prepared; by default one with a quote for EURUSD.
            producer: the broker.
            channel: the backend's socket.
            limits: changes to `LIMITS`.
            ready: wait until reconciled.
            reconcile: run the reconciliation.
            step: awaited around every call of journal and terminal.
            settings: fields of `KitSettings`.
        """
        if terminal is None:
            terminal = FakeTerminal(login=LOGIN)
            terminal.keep_time(clock_of_loop().now_ms)
            terminal.tick("EURUSD", 1.1000, 1.1001)
        journal = await KitJournal.open(folder / "journal.db", lock=False)
        assert isinstance(journal, KitJournal)
        kit = cls(
            folder,
            terminal,
            journal,
            producer or FakeProducer(),
            channel or FakeChannel(),
            msgspec.structs.replace(LIMITS, **(limits or {})),
            KitSettings(**settings),
        )
        journal.step = terminal.step = step
        await kit._assemble()
        try:
            if reconcile:
                kit.run("reconcile")
                kit.reconciler.state_changed(terminal.state)
            if reconcile and ready:
                await kit.book.reconciled.wait()
            yield kit
        finally:
            await kit.close()
        assert not kit.defects, kit.defects

    async def _assemble(self) -> None:
        settings, clock, terminal, journal = self.settings, self.clock, self.terminal, self.journal
        port: Terminal = terminal
        headers = Headers("bridge-1", lambda: self.login or "")
        self.outbox = Outbox(
            journal,
            clock,
            channels=settings.channels,
            login=lambda: self.login or "",
            headers=headers,
            event_topic=EVENTS,
            dlq_topic=DLQ,
        )
        self.file = LatchFile(self.folder / "halt.latch")
        self.latch = HaltLatch(self.outbox, self.file, await self._latched())
        self.book = Book(port, clock, ZoneInfo(settings.zone))
        self.settler = Settler(port, clock, window_s=settings.settle_window_s)
        self.desk = OrderDesk(
            terminal,
            journal,
            self.outbox,
            self.book,
            self.latch,
            self.settler,
            clock,
            magic_base=settings.magic,
            simulate=settings.simulate,
            on_defect=self.defects.append,
            send_timeout_s=settings.send_timeout_s,
        )
        self.judge = Judge(port, self.book, self.latch, clock, lambda: self.limits)
        self.exits = Exits(
            self.desk,
            self.judge,
            self.book,
            port,
            journal,
            clock,
            magic_base=settings.magic,
            deviation_points=settings.deviation_points,
        )
        self.guard = StopGuard(self.desk, self.book, port, clock, deviation_points=settings.deviation_points)
        self.trader = Trader(
            self.desk,
            self.judge,
            self.book,
            self.settler,
            clock,
            self.exits,
            self.guard,
            deviation_points=settings.deviation_points,
            on_defect=self.defects.append,
        )
        self.intake = Intake(
            self.trader,
            journal,
            self.outbox,
            clock,
            limits=lambda: self.limits,
            early=self.judge.early,
            login=lambda: self.login,
            hmac_keys=settings.hmac_keys,
            reply=self.channel.send,
            magic_of=self.desk.natural_magic,
        )
        self.intake.login_known.set()
        await self._assemble_rest(headers)

    async def _assemble_rest(self, headers: Headers) -> None:
        settings, clock, terminal, journal = self.settings, self.clock, self.terminal, self.journal
        self.emergency = Emergency(
            terminal,
            self.desk,
            self.book,
            self.latch,
            self.outbox,
            journal,
            clock,
            defaults=settings.stop,
            grace_s=settings.stop_grace_s,
            magic_base=settings.magic,
        )
        self.fanout = Fanout(self.channel)
        self.account = AccountFlow(
            terminal,
            self.book,
            journal,
            self.outbox,
            clock,
            control=self.fanout,
            interval_s=settings.account_interval_s,
        )
        self.ticks = TickFlow(
            terminal,
            journal,
            self.book,
            clock,
            symbols=settings.symbols,
            hz=settings.tick_hz,
            latest_only=settings.latest_only,
            backfill_ms=settings.backfill_ms,
            topic=TICKS,
            headers=headers,
            producer=self.producer if settings.hybrid else None,
            stream=None if settings.hybrid else self.channel,
            on_defect=self.defects.append,
        )
        self.bars = BarFlow(
            terminal,
            journal,
            self.book,
            clock,
            symbols=lambda: self.ticks.symbols,
            timeframes=settings.bars,
            way=TopicWay(self.producer, BARS, headers) if settings.hybrid else SocketWay(self.channel),
        )
        self.reconciler = Reconciler(
            terminal,
            journal,
            self.book,
            self.desk,
            self.settler,
            self.trader,
            self.exits,
            self.guard,
            self.intake,
            DeadManReports(self.folder, journal, self.outbox, self.latch),
            clock,
            on_ready=self._on_ready,
        )
        self.corrections = Corrections(
            journal, self.book, self.desk, self.trader, self.exits, self.guard, self.intake, clock
        )
        self.trailing = Trailing(
            self.desk,
            self.judge,
            self.book,
            self.guard,
            terminal,
            journal,
            clock,
            magic_base=settings.magic,
        )
        self.watch = Watch(
            terminal,
            journal,
            self.book,
            self.latch,
            self.emergency,
            clock,
            WatchConfig(
                heartbeat_s=settings.heartbeat_s,
                data_dir=self.folder,
                drawdown_flattens=settings.drawdown_flattens,
                backend_dead_after_s=settings.backend_dead_after_s,
                backend_dead_action=settings.backend_dead_action,
            ),
            limits=lambda: self.limits,
            channels=lambda: dict(self.states),
            backend_seen=lambda: self.channel.last_seen_msc,
            tick_age_ms=lambda: self.ticks.stats.age_ms,
            control=self.fanout,
        )
        self.fanout.attach(
            ticks=self.ticks,
            ticks_to_backend=not settings.hybrid,
            outbox=self.outbox,
            book=self.book,
            clock=clock,
            health=self.watch.health,
        )
        self.commands = Commands(
            terminal,
            self.book,
            journal,
            self.latch,
            self.emergency,
            self.desk,
            self.intake,
            self.ticks,
            clock,
            limits=lambda: self.limits,
            status=self.watch.health,
            remote_resume=settings.remote_resume,
            magic_base=settings.magic,
        )
        self.answers = Answers(journal, self.latch, self.emergency, clock, self.commands.table())
        self.control = ControlFlow(
            self.answers,
            self.intake,
            clock,
            on_defect=self.defects.append,
            permitted=settings.permitted,
        )
        self.control.attach(self.channel)
        self.local = LocalControl(self.folder, self.latch, self.emergency, self.commands, status=self.watch.health)
        terminal.on_state(self._terminal_state)
        journal.on_health(lambda healthy, detail: setattr(self.book, "journal_healthy", healthy))
        self.desk.on_alarm(self.alarms.append)
        await self._restore()

    async def _latched(self) -> Halt:
        stored, record = await self.journal.halt(), self.file.read()
        halt = Halt()
        if stored is not None:
            halt = Halt(
                state=HaltState(stored.state),
                reason=stored.reason,
                by=stored.by,
                at_msc=stored.at_msc,
                origin=Origin(stored.origin),
                until_day=stored.until_day,
            )
        if record is not None:
            written = Halt(state=HaltState(record.state), reason=record.reason, by=record.by, at_msc=record.at_msc)
            halt = machine.stricter(halt, written)
        return halt

    async def _restore(self) -> None:
        day = await self.journal.memo(DAY_MEMO)
        if day is not None:
            self.book.restore_day(msgspec.json.decode(day, type=Day))
        await self.account.restore()
        await self.ticks.restore()
        await self.watch.restore()
        await self.answers.restore()
        await self.emergency.take_up()
        await self.desk.plans.restore(self.journal)
        await self.reconciler.take_up()

    def _terminal_state(self, state: TerminalState, detail: str) -> None:
        if state is TerminalState.CONNECTED:
            self.ticks.reconnected()
            self.bars.reconnected()
        self.reconciler.state_changed(state)

    def _on_ready(self) -> None:
        self.account.changed()
        self.account.greet()

    # --- running

    def run(self, *names: str) -> None:
        """Start flows by the names they have in the bridge."""
        flows: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "reconcile": self.reconciler.run,
            "corrections": self.corrections.run,
            "trailing": self.trailing.run,
            "ticks": self.ticks.run,
            "cursors": self.ticks.run_cursors,
            "bars": self.bars.run,
            "account-poll": self.account.run_polling,
            "account-events": self.account.run_events,
            "account": self.account.run_account,
            "heartbeat": self.watch.run_heartbeat,
            "stalls": self.watch.run_stalls,
            "rules": self.watch.run_rules,
            "day": self.watch.run_day,
            "probe": self.watch.run_probe,
            "housekeeping": self.watch.run_housekeeping,
            "outbox-janitor": self.outbox.run_janitor,
            "outbox-redpanda": lambda: self.outbox.run_redpanda(self.producer),
            "states": lambda: self.outbox.run_latest(self.producer),
            "outbox-websocket": lambda: self.outbox.run_websocket(self.channel),
            "commands": self.control.run_commands,
            "frame-signals": self.control.run_signals,
        }
        for name in names:
            task = asyncio.create_task(flows[name](), name=name)
            task.add_done_callback(self._flow_ended)
            self.tasks[name] = task

    def _flow_ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.defects.append(error)

    def limit(self, **changes: Any) -> None:
        """Change settings while running."""
        self.limits = msgspec.structs.replace(self.limits, **changes)

    def halt(self, state: HaltState = HaltState.HALTED, *, origin: Origin = Origin.REMOTE) -> None:
        """Latch, without flattening."""
        change = machine.stop if state is HaltState.HALTED else machine.reduce
        self.latch.tighten(change(self.latch.halt, reason="test", by="test", at_msc=self.clock.now_ms(), origin=origin))

    async def close(self) -> None:
        """End in the bridge's order; after a crash there is nothing left to end."""
        if self.journal._closed:
            return
        self.journal.step = self.terminal.step = None
        await self.trader.lanes.close()
        await self.emergency.close()
        await self.desk.close()
        await self.bars.close()
        await self.ticks.close()
        await self.watch.save_day()
        for task in self.tasks.values():
            task.cancel()
        await self.control.close()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        await self.latch.close()
        self.terminal.forget_listeners()
        await self.journal.close()

    async def crash(self) -> None:
        """End as a killed process does: what is durable stays, everything else is gone."""

        async def dead(name: str) -> None:
            await asyncio.get_running_loop().create_future()

        self.journal.step = dead
        self.terminal.forget_listeners()
        self.terminal.step = dead
        while mine := asyncio.all_tasks() - self._before - {asyncio.current_task()}:
            for task in mine:
                task.cancel()
            await asyncio.wait(mine, timeout=1.0)
        self.terminal.step = None
        self.journal.step = None
        self.file.close()
        await self.journal.close()

    # --- what goes in

    def value(self, action: str = "BUY", **fields: Any) -> bytes:
        """A trading_signal envelope; symbol EURUSD unless named."""
        return json.dumps({"type": "trading_signal", "data": {"symbol": "EURUSD", "action": action, **fields}}).encode()

    def record(
        self, value: bytes | None, *, key: bytes | None = b"EURUSD", timestamp_ms: int | None = None, **more: Any
    ) -> FakeRecord:
        """The next record of the topic, made now unless dated."""
        stamp = self.clock.now_ms() if timestamp_ms is None else timestamp_ms
        return FakeRecord(**{"value": value, "offset": next(self._offsets), "key": key, "timestamp_ms": stamp, **more})

    async def send(self, action: str = "BUY", *, record: Mapping[str, Any] | None = None, **fields: Any) -> FakeRecord:
        """A signal by the topic; returns when intake has it durable."""
        made = self.record(self.value(action, **fields), **(record or {}))
        await self.intake.take([made])
        return made

    async def send_frame(self, action: str = "BUY", *, request_id: str | int | None = None, **fields: Any) -> None:
        """A signal by the WebSocket; returns when intake has it durable."""
        frame = json.loads(self.value(action, **fields))
        if request_id is not None:
            frame["request_id"] = request_id
        await self.intake.take_frames([(wire.decode(json.dumps(frame).encode()), self.clock.now_ms())])

    async def command(self, name: str, *, request_id: str | int | None = None, **params: Any) -> None:
        """A command frame as the receive loop hands it over; needs `run("commands")` to be done."""
        frame: dict[str, Any] = {"type": name, "data": params}
        if request_id is not None:
            frame["request_id"] = request_id
        self.control.on_frame(json.dumps(frame).encode())
        await asyncio.sleep(0)

    # --- what came out

    async def result(self, key: str, timeout: float = 5.0) -> dict[str, Any]:
        """The `data` of a signal's final result, once there is one."""

        async def final() -> dict[str, Any] | None:
            row = (await self.journal.seen([key])).get(key)
            if row is None or row.result is None:
                return None
            data: dict[str, Any] = json.loads(row.result)["data"]
            return data

        return await eventually(final, timeout, f"final result of {key}")

    async def events(self, type: str | None = None) -> list[dict[str, Any]]:
        """All events told or waiting to be told, each once, in order; with a type, the `data` of those."""
        rows = await self.journal.outbox("redpanda", 0, 100_000)
        frames = self.producer.of(EVENTS) + [json.loads(row.payload) for row in rows if row.type != "dead_letter"]
        unique = {frame["event_id"]: frame for frame in frames}
        return list(unique.values()) if type is None else [f["data"] for f in unique.values() if f["type"] == type]

    async def results(self, key: str | None = None) -> list[dict[str, Any]]:
        """All order_results announced, interim ones included, of one signal if named."""
        return [r for r in await self.events("order_result") if key in (None, r["signal_id"])]

    async def idle(self) -> None:
        """Wait until no order task runs and no signal waits."""
        await eventually(lambda: not self.desk._tasks and not self.trader.lanes._lanes, 10.0, "no order under way")
