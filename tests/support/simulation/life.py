"""One life of the bridge, whole, from its composition root, in the simulated world: ended in order or killed."""

import asyncio
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from support.simulation.backend import Backend, SimControl
from support.simulation.broker import Broker
from support.simulation.clients import SimProducer, SimReader, diagnose, ensure_topics
from support.simulation.disk import Disk, LoopWriter, NoCheckpoints, lazy_os
from support.simulation.terminal import Hosts, Witness
from support.simulation.weather import Weather
from support.simulation.world import World

from mt5_bridge.app import bridge as root
from mt5_bridge.app import rooms
from mt5_bridge.app.bridge import Bridge
from mt5_bridge.flows import account, outbox, parts, ticks, trailing, watch
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.local import LocalControl
from mt5_bridge.journal import journal, latchfile, schema
from mt5_bridge.redpanda import consumer, patience, producer, topics
from mt5_bridge.settings import load
from mt5_bridge.simulator.books import secret
from mt5_bridge.terminal import client, host_ops, host_ticks
from mt5_bridge.terminal.session import MT5SessionManager

STOP_WITHIN_S = 10.0
_UNWIND_TURNS = 500

Refused = sqlite3.Error | OSError


class Life:
    """A bridge from its start to its end.

    Args:
        folder: DATA_DIR, the same in every life.
        env: its settings.
        on_commit: told of each group the journal wrote.
    """

    def __init__(
        self,
        world: World,
        weather: Weather,
        witness: Witness,
        folder: Path,
        env: dict[str, str],
        on_commit: Callable[[sqlite3.Connection], None],
    ) -> None:
        self.world = world
        self.hosts = Hosts(world, weather, witness)
        self.disk = Disk(world, weather, folder, on_commit)
        self.producers: list[SimProducer] = []
        settings = load(env={"DATA_DIR": str(folder), **env}, cwd=folder).settings
        clock = Clock(world.now_ms, world.monotonic)
        session = MT5SessionManager(
            rooms.terminal_config(settings),
            now_ms=world.now_ms,
            monotonic=world.monotonic,
            random=world.random("reconnect").random,
        )
        self.bridge = Bridge(settings, clock, session)
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start it."""
        self.world.note("begins")
        self.world.loop.elsewhere = self.disk.elsewhere
        self.task = asyncio.create_task(self.bridge.run(), name="bridge")
        self.task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if self.disk.alive and not task.cancelled() and (error := task.exception()) is not None:
            self.world.breach("defect", f"the bridge ended by itself: {_words(error)}")

    def offset(self, partition: int) -> int | None:
        """What the journal holds as the next offset."""
        db = self.disk.look()
        row = db.execute("SELECT next_offset FROM offsets WHERE partition = ?", (partition,)).fetchone()
        return None if row is None else int(row[0])

    async def stop(self) -> None:
        """Ask it to end, and look that it does in time."""
        assert self.task is not None
        self.world.note("is_asked_to_end")
        self.bridge.request_stop()
        done, _ = await asyncio.wait({self.task}, timeout=STOP_WITHIN_S)
        if not done:
            self.world.breach("stop", f"the bridge did not end within {STOP_WITHIN_S:g} s")
            await self.kill()
            return
        self.world.note("ended")
        self._cut_off()
        self.disk.close()
        await self._unwind()

    async def kill(self) -> None:
        """It is gone between two steps of its own; nothing it would still do reaches the world."""
        self.world.note("killed")
        self.disk.die()
        self._cut_off()
        await self._unwind()

    def _cut_off(self) -> None:
        self.hosts.die()
        for each in self.producers:
            each.die()

    async def _unwind(self) -> None:
        """Take the dead tasks away. They run into closed doors only."""
        me = asyncio.current_task()
        for _ in range(_UNWIND_TURNS):
            tasks = [task for task in asyncio.all_tasks() if task is not me]
            if not tasks:
                return
            for task in sorted(tasks, key=lambda task: task.get_name()):
                task.cancel()
            await asyncio.sleep(0)
        self.world.breach("defect", f"tasks that cannot be cancelled: {sorted(t.get_name() for t in tasks)}")


def _words(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_words, error.exceptions))
    return repr(error)


class _Uuids:
    """`uuid.uuid4` from the seed."""

    def __init__(self, world: World) -> None:
        self._random = world.random("uuid")

    def __call__(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)


@contextmanager
def in_world(world: World, broker: Broker, backend: Backend, life: Callable[[], Life]) -> Iterator[None]:
    """While it lasts a bridge finds the simulated world in the places of processes, threads, sockets and clocks.

    Args:
        life: the one that runs, asked whenever something is made for it.
    """
    time = SimpleNamespace(monotonic=world.monotonic, time_ns=lambda: world.now_ms() * 1_000_000)

    def make_producer(config: Any, **named: Any) -> SimProducer:
        made = SimProducer(config, **named)
        life().producers.append(made)
        return made

    def make_writer(db: sqlite3.Connection, checkpointer: Any, on_health: Any) -> LoopWriter:
        return LoopWriter(life().disk, db, on_health)

    real = consumer.SignalConsumer

    def make_consumer(config: Any, topic: str, group: str, offsets: Any, *args: Any, **named: Any) -> Any:
        told = named.pop("on_reset")

        async def on_reset(topic: str, partition: int, offset: int, why: str) -> None:
            broker.begun_anew(partition, offset, why, life().offset(partition))
            await told(topic, partition, offset, why)

        random = world.random("consumer").random
        return real(
            config, topic, group, offsets, *args, on_reset=on_reset, now_ms=world.now_ms, random=random, **named
        )

    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=50_000_000))
    places: list[tuple[object, str, object]] = [
        (client, "HostProcess", SimpleNamespace(start=lambda *args: life().hosts.start(*args))),
        (client, "time", time),
        (host_ops, "time", time),
        (host_ticks, "perf_counter", _stopwatch(world)),
        (consumer, "time", time),
        (consumer, "Reader", type("Reader", (SimReader,), {"broker": broker})),
        (consumer, "diagnose", diagnose),
        (consumer, "SignalConsumer", make_consumer),
        (producer, "Producer", make_producer),
        (SimProducer, "broker", broker),
        (topics, "ensure_topics", ensure_topics),
        (root, "ControlClient", partial(SimControl, backend)),
        (journal, "Writer", make_writer),
        (journal, "Checkpointer", NoCheckpoints),
        (journal, "InstanceLock", lambda path: ExitStack()),
        (schema, "connect", lambda path, **named: life().disk.connect(path, **named)),
        (schema, "connect_reader", lambda path: life().disk.connect_reader(path)),
        (latchfile, "os", lazy_os()),
        (LocalControl, "open", _nothing),
        (LocalControl, "close", _nothing),
        (watch, "psutil", SimpleNamespace(Process=lambda: process)),
        # Half of the worlds take a flood in by parts that are hardly one.
        (parts, "COMMIT", world.random("parts").choice((2, parts.COMMIT))),
        (uuid, "uuid4", _Uuids(world)),
        (outbox, "_ids", world.random("event ids")),
        *_SLOWER,
    ]
    with ExitStack() as stack:
        for where, name, what in places:
            stack.enter_context(patch.object(where, name, what, create=True))
        yield


def _stopwatch(world: World) -> Callable[[], float]:
    """The host's own clock within one call: looking at a symbol takes it a while, sometimes all of its slice."""
    random, read = world.random("stopwatch"), world.monotonic()

    def now() -> float:
        nonlocal read
        read += random.choice((0.0, 0.0, 0.0, 0.002, 0.005))
        return read

    return now


async def _nothing(self: object) -> None:
    """The door on this PC needs a socket; what comes through it is asked for directly."""


_SLOWER = (
    (watch, "_STALL_PERIOD_S", 60.0),
    (watch, "_RULES_S", 1.0),
    (watch, "_FILE_S", 2.0),
    (watch, "_DAY_S", 20.0),
    (account, "REFRESH_S", 1.0),
    (ticks, "CURSOR_S", 3.0),
    (trailing, "LOOK_S", 0.5),
    (patience, "_PATIENT_MS", 4000),
    (patience, "_TELLING_MS", 1000),
    (secret, "_ROUNDS", 1),
)
"""Looks that the bridge takes a few times a second: rarer ones make a minute of a run four times as cheap."""
