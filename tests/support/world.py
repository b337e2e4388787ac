"""A daemon between a broker's topics and a backend, both real and neither the project's own."""

import asyncio
import contextlib
import itertools
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from support.backend import Backend, Frame
from support.daemon import HYBRID, SYMBOLS, Daemon
from support.eventually import eventually, poll_until
from support.topics import Topics, unique

TOKEN = "backend-secret"
PAGE = 3_000
FAR = 0.02
"""Distance of stops and pendings that must not trigger, as a part of the price."""


class World:
    """What a test of the daemon holds in its hands.

    Attributes:
        daemon: the process and its folder.
        topics: its topics; in standard mode nobody writes there.
        backend: its WebSocket server.
    """

    def __init__(self, daemon: Daemon, topics: Topics, backend: Backend) -> None:
        self.daemon = daemon
        self.topics = topics
        self.backend = backend
        self._requests = itertools.count(1)

    async def start(self, **env: str) -> Frame:
        """Starts the daemon and waits until it is ready to trade; returns the `data` of its hello."""
        mark = len(self.backend.frames)
        self.daemon.start(env=env)
        hello = await self.hello(after=mark)
        await self.backend.frame("positions", after=mark, timeout=15.0)  # told only once reconciled
        return hello

    async def hello(self, after: int = 0, timeout: float = 15.0) -> Frame:
        """The `data` of the first hello from there on."""

        def found() -> Frame | None:
            if self.daemon.ended is not None:
                raise RuntimeError(f"exit code {self.daemon.ended}\n{self.daemon.console[-3000:]}")
            return next((f["data"] for f in self.backend.frames[after:] if f["type"] == "hello"), None)

        return await eventually(found, timeout, "hello")

    async def signal(self, symbol: str, action: str, *, signal_id: str | None = None, **fields: Any) -> Frame:
        """A signal by the topic; the `data` of its final result there."""
        signal_id = signal_id or unique()
        await self.topics.signal(signal_id, symbol, action, **fields)
        return await self.topics.result(signal_id)

    async def open(self, symbol: str = "XAUUSD", action: str = "BUY", **fields: Any) -> Frame:
        """Opens a position of 0.01 lots, its stop far away; the `data` of the result."""
        bid = (await self.topics.quote(symbol))["bid"]
        stop = price(bid * (1 - FAR if action == "BUY" else 1 + FAR), symbol)
        result = await self.signal(symbol, action, **{"volume": 0.01, "stop_loss": stop, **fields})
        assert result["status"] == "filled", result
        return result

    async def command(self, type: str, data: Any = None, *, timeout: float = 5.0) -> Frame:
        """A command with a fresh request_id; the `data` of its command_result."""
        answer = await self.backend.command(
            type, data, request_id=f"r{next(self._requests)}-{id(self)}", timeout=timeout
        )
        found: Frame = answer["data"]
        return found

    async def ask(self, type: str, **params: Any) -> Any:
        """A command that must succeed; what it found."""
        answer = await self.command(type, params)
        assert answer["success"], answer
        return answer["data"]

    async def halted(self, phase: str, timeout: float = 10.0, after: int = 0) -> Frame:
        """The `data` of the first halt_changed of a phase on the WebSocket."""
        frame = await self.backend.frame(
            "halt_changed", where=lambda f: f["data"]["phase"] == phase, timeout=timeout, after=after
        )
        data: Frame = frame["data"]
        return data

    async def state(self) -> str:
        """The halt state as `get_status` tells it."""
        return str((await self.ask("get_status"))["halt"])

    async def flowing(self, symbols: Sequence[str] = SYMBOLS, timeout: float = 15.0) -> None:
        """Waits for a new tick of each symbol on the topic."""
        marks = {symbol: len(self.topics.ticks_of(symbol)) for symbol in symbols}
        await eventually(
            lambda: all(len(self.topics.ticks_of(symbol)) > mark for symbol, mark in marks.items()),
            timeout,
            "new ticks of every symbol",
        )


@asynccontextmanager
async def world(
    folder: Path,
    bootstrap: str,
    *,
    command: Sequence[str] = HYBRID,
    token: str | None = TOKEN,
    make_topics: bool = True,
    topics_tag: str | None = None,
    **env: str,
) -> AsyncIterator[World]:
    """A world whose daemon is not started yet; everything ends with the block.

    Args:
        folder: the daemon's place.
        bootstrap: the broker.
        command: the program, as arguments of Python.
        token: what the backend wants; None: anything.
        make_topics: whether the topics exist before the bridge comes.
        topics_tag: names the topics; None: a new one.
        env: more of its settings.
    """
    async with AsyncExitStack() as stack:
        topics = await stack.enter_async_context(
            Topics(bootstrap, make=make_topics, bars="BARS" in env, tag=topics_tag)
        )
        backend = await stack.enter_async_context(Backend(token))
        daemon = Daemon(folder, {**topics.env, "BACKEND_WS_URL": backend.url, **env}, command)
        stack.callback(daemon.close)
        yield World(daemon, topics, backend)


MakeWorld = Callable[..., AbstractAsyncContextManager[World]]
"""`world` with a folder and a broker of the test's own."""


def price(value: float, symbol: str) -> float:
    """A price with as many digits as the symbol has."""
    return round(value, 2 if symbol.startswith("XAU") else 5)


def sending(data: Path) -> bool:
    """Whether an order hangs in the terminal, done: under way by the journal, a position in the paper account."""
    accounts = list(data.rglob("*@*.sqlite"))
    under_way = _count(data / "journal.db", "SELECT count(*) FROM intents WHERE state = 'sending'")
    return under_way == 1 and any(_count(each, "SELECT count(*) FROM positions") for each in accounts)


def _count(file: Path, query: str) -> int:
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        (count,) = db.execute(query).fetchone()
        return int(count)


async def held_ticks(world: World, symbol: str, first_msc: int) -> list[tuple[int, int]]:
    """`(time_msc, seq)` of all ticks that the terminal has from that time on, asked for in pages that a frame holds."""
    held: dict[tuple[int, int], None] = {}
    more = True
    while more:
        page = await world.ask("get_ticks", symbol=symbol, from_msc=first_msc, count=PAGE)
        held.update(((tick["time_msc"], tick["seq"]), None) for tick in page)
        more = len(page) == PAGE
        first_msc = page[-1]["time_msc"] if page else first_msc
    return list(held)


async def check_ticks(world: World) -> None:
    """Every tick of the terminal since the first published one is on the topic, repetitions aside in order."""
    for symbol in SYMBOLS:
        first = min(world.topics.ticks_of(symbol))
        # The bridge may have begun between two ticks of one millisecond.
        held = [tick for tick in await held_ticks(world, symbol, first[0]) if tick >= first]

        def missing(symbol: str = symbol, held: list[tuple[int, int]] = held) -> list[tuple[int, int]]:
            return sorted(set(held) - set(world.topics.ticks_of(symbol)))

        await asyncio.to_thread(poll_until, lambda: not missing(), 5.0)
        lost = missing()
        assert not lost, f"{symbol}: {len(lost)} of {len(held)} ticks are missing: {lost[:10]}, first {first}"
        came = list(dict.fromkeys(world.topics.ticks_of(symbol)))
        assert came == sorted(came)
        assert came[: len(held)] == held
