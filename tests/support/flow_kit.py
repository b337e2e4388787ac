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
from mt5_bridge.core.decision import Limits
from mt5_bridge.core.errors import BrokerError, ChannelClosedError, JournalError
from mt5_bridge.core.halt import HaltState, Origin
from mt5_bridge.core.permission import Permission
from mt5_bridge.core.ticks import Framed
from mt5_bridge.flows.assembly import FlowConfig, Flows, Surroundings
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.door import Door
from mt5_bridge.flows.emergency import StopOptions
from mt5_bridge.flows.latch import LastHalt, last_halt
from mt5_bridge.flows.watch import WatchConfig
from mt5_bridge.journal.changes import Change
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.latchfile import LatchFile
from mt5_bridge.redpanda.batch import stored

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
        refusing: topics that it takes nothing for.
    """

    def __init__(self) -> None:
        self.records: list[Published] = []
        self.error: BrokerError | None = None
        self.hang: asyncio.Event | None = None
        self.full = False
        self.refusing: tuple[str, ...] = ()
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
        parts: Sequence[tuple[bytes | None, Sequence[tuple[int | None, bytes | None]]]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> list[tuple[asyncio.Future[None], list[int]]]:
        """As the real one: parts of one partition, here by the key's first byte, share a future."""
        together: dict[int, list[int]] = {}
        for index, (key, _) in enumerate(() if self.full else parts):
            together.setdefault((key or b"\0")[0] % 4, []).append(index)
        return [
            (asyncio.ensure_future(self._all(topic, [parts[index] for index in indices], headers)), indices)
            for indices in together.values()
        ]

    async def _all(
        self,
        topic: str,
        parts: Sequence[tuple[bytes | None, Sequence[tuple[int | None, bytes | None]]]],
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        for key, records in parts:
            await self.publish(topic, key, records, headers)

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

    def config(self, folder: Path) -> FlowConfig:
        """As the flows are told."""
        watch = WatchConfig(
            heartbeat_s=self.heartbeat_s,
            data_dir=folder,
            drawdown_flattens=self.drawdown_flattens,
            backend_dead_after_s=self.backend_dead_after_s,
            backend_dead_action=self.backend_dead_action,
        )
        return FlowConfig(
            data_dir=folder,
            watch=watch,
            zone=ZoneInfo(self.zone),
            magic_base=self.magic,
            symbols=self.symbols,
            hybrid=self.hybrid,
            gateway=True,
            channels=self.channels,
            event_topic=EVENTS,
            dlq_topic=DLQ,
            tick_topic=TICKS,
            bar_topic=BARS,
            bars=self.bars,
            tick_hz=self.tick_hz,
            latest_only=self.latest_only,
            backfill_ms=self.backfill_ms,
            deviation_points=self.deviation_points,
            simulate=self.simulate,
            send_timeout_s=self.send_timeout_s,
            settle_window_s=self.settle_window_s,
            stop=self.stop,
            stop_grace_s=self.stop_grace_s,
            account_interval_s=self.account_interval_s,
            hmac_keys=self.hmac_keys,
            remote_resume=self.remote_resume,
            permitted=self.permitted,
        )


class FlowKit(Flows):
    """Every flow of a bridge, by the names they have in the bridge. Made by `FlowKit.open`."""

    terminal: FakeTerminal
    journal: KitJournal
    producer: FakeProducer

    def __init__(
        self,
        folder: Path,
        terminal: FakeTerminal,
        journal: KitJournal,
        producer: FakeProducer,
        channel: FakeChannel,
        limits: Limits,
        settings: KitSettings,
        last: LastHalt,
    ) -> None:
        self.folder, self.channel = folder, channel
        self.limits, self.settings = limits, settings
        self.defects: list[BaseException] = []
        self.alarms: list[str] = []
        self.login: str | None = str(LOGIN)
        self.states: dict[str, str] = {"terminal": "connected", "redpanda": "connected", "backend": "connected"}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._offsets = count()
        self._before = asyncio.all_tasks()
        clock = clock_of_loop()
        terminal.keep_time(clock.now_ms)
        around = Surroundings(
            limits=lambda: self.limits,
            login=lambda: self.login,
            headers=Headers("bridge-1", lambda: self.login or ""),
            channels=lambda: dict(self.states),
            troubles=tuple,
            status=lambda: self.watch.health(),
            on_ready=self._on_ready,
            on_alarm=self.alarms.append,
            on_defect=self.defects.append,
        )
        super().__init__(
            settings.config(folder),
            around,
            clock,
            terminal=terminal,
            port=terminal,
            journal=journal,
            last=last,
            producer=producer,
            backend=channel,
        )
        self.intake.login_known.set()
        terminal.on_state(lambda state, detail: self.terminal_state(state))

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
            await last_halt(journal),
        )
        journal.step = terminal.step = step
        asyncio.get_running_loop().set_exception_handler(kit._told_by_the_loop)
        await kit.restore()
        await kit.take_up()
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

    @property
    def file(self) -> LatchFile:
        """The latch file."""
        return self.latch._file

    def door(self) -> Door:
        """The bridge as the gateway sees it, for who neither connects nor measures, and hears nothing."""
        nobody: Any = None
        return Door(
            self.answers,
            self.emergency,
            self.intake,
            self.book,
            self.clock,
            nobody,
            status=self.watch.health,
            health=self.watch.health,
            listen=lambda listener: lambda: None,
            figures=nobody,
        )

    def _on_ready(self) -> None:
        self.account.changed()
        self.account.greet()

    # --- running

    def run(self, *names: str) -> None:
        """Start flows by the names they have in the bridge."""
        works = self.works()
        for name in names:
            task = asyncio.create_task(works[name](), name=name)
            task.add_done_callback(self._flow_ended)
            self.tasks[name] = task

    def _flow_ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.defects.append(error)

    def _told_by_the_loop(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # asyncio's own callback asks a cancelled connection for its exception.
        if isinstance(error, Exception) and str(context["message"]).startswith("Exception in callback"):
            self.defects.append(error)
        loop.default_exception_handler(context)

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
        await self.end_orders()
        await self.last_writes()
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

    async def take(self, records: Sequence[FakeRecord]) -> None:
        """Records by the topic; returns when intake has them all durable."""
        async with asyncio.TaskGroup() as group:
            await self.intake.take(records, group, lambda behind: None)

    async def send(self, action: str = "BUY", *, record: Mapping[str, Any] | None = None, **fields: Any) -> FakeRecord:
        """A signal by the topic; returns when intake has it durable."""
        made = self.record(self.value(action, **fields), **(record or {}))
        await self.take([made])
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
