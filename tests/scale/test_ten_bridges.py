"""Ten bridges of ten accounts on one cluster, signals keyed by account; and the example that sums them up."""

import asyncio
import json
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.daemon import ROOT, Daemon, environment
from support.eventually import eventually

from mt5_bridge.client import BridgeTopics, Message
from mt5_bridge.demo.broker import EmbeddedBroker

pytestmark = [pytest.mark.many, pytest.mark.timeout(230)]

BRIDGES = 10
ACCOUNTS = [str(5_000_101 + number) for number in range(BRIDGES)]
SYMBOLS = ("AUDUSD", "GBPUSD")
EACH = 20
"""Signals of an account."""
KILLED, HALTED = ACCOUNTS[3], ACCOUNTS[7]
START_S = 90.0
WORK_S = 60.0
FINAL = ("filled", "closed", "denied", "rejected", "abandoned")


class Backend:
    """One for all bridges: what it read, by account."""

    def __init__(self, topics: BridgeTopics) -> None:
        self.topics = topics
        self.results: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.halts: dict[str, str] = {}
        self.ticks: dict[tuple[bytes, str], list[tuple[int, int]]] = defaultdict(list)

    async def read_events(self) -> None:
        async with aclosing(self.topics.events()) as events:
            async for event in events:
                account = (event.key or b"").decode()
                assert event.headers["account"].decode() == account
                if event.type == "order_result":
                    self.results[account].append(event.data)
                elif event.type == "halt_changed":
                    self.halts[account] = event.data["state"]

    async def read_ticks(self) -> None:
        async with aclosing(self.topics.ticks()) as ticks:
            async for tick in ticks:
                self._tick(tick)

    def _tick(self, tick: Message) -> None:
        self.ticks[tick.headers["bridge"], tick.data["symbol"]].append((tick.data["time_msc"], tick.data["seq"]))

    def final(self, account: str) -> list[dict[str, Any]]:
        return [result for result in self.results[account] if result["status"] in FINAL]

    async def send(self, account: str, signal_id: str, symbol: str, action: str, **more: Any) -> None:
        signal = {"signal_id": signal_id, "symbol": symbol, "action": action, "account": account, **more}
        await self.topics.send_signal(signal, key=account)


class Cluster:
    """The bridges, each a daemon in a folder of its own, and their backend."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        self.bootstrap = bootstrap
        self.daemons: dict[str, Daemon] = {}
        for account in ACCOUNTS:
            home = folder / account
            home.mkdir()
            settings = {
                "REDPANDA_BOOTSTRAP_SERVERS": bootstrap,
                "MT5_LOGIN": account,
                "BRIDGE_ID": f"pc-{account}",
                "SIGNAL_REQUIRE_ACCOUNT": "true",
                "SYMBOLS": ",".join(SYMBOLS),
                "SIGNAL_MAX_AGE_MS": "120000",
                "REQUIRE_STOP_LOSS": "false",
            }
            self.daemons[account] = Daemon(home, settings)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[tuple[Cluster, Backend]]:
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        here = Cluster(broker.bootstrap, folder)
        topics = await stack.enter_async_context(BridgeTopics(broker.bootstrap, start="earliest"))
        backend = Backend(topics)
        readers = [asyncio.create_task(backend.read_events()), asyncio.create_task(backend.read_ticks())]
        for daemon in here.daemons.values():
            stack.callback(daemon.close)
            daemon.start()
        try:
            yield here, backend
            for reader in readers:
                assert not reader.done(), reader
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)


def work(number: int) -> tuple[str, str, dict[str, Any]]:
    """Symbol, action and the rest of an account's n-th signal: an opening, then its close, by turns on two symbols."""
    symbol = SYMBOLS[number // 2 % len(SYMBOLS)]
    return (symbol, "BUY", {"volume": 0.01}) if number % 2 == 0 else (symbol, "CLOSE", {})


async def send_all(backend: Backend, numbers: range) -> None:
    """To all accounts by turns, some of it twice, as producers do that did not hear the broker's answer."""
    for number in numbers:
        symbol, action, more = work(number)
        for account in ACCOUNTS:
            for _ in range(2 if number % 5 == 0 else 1):
                await backend.send(account, f"{account}-{number}", symbol, action, **more)


def everyone_ticks(backend: Backend) -> bool:
    return len(backend.ticks) == BRIDGES * len(SYMBOLS)


async def test_ten_bridges_share_a_cluster_and_each_does_what_is_its_own(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (here, backend):
        await eventually(lambda: everyone_ticks(backend), START_S, "ticks of ten bridges")
        await send_all(backend, range(EACH // 2))
        # For nobody by name: no bridge may take it for its own.
        await backend.topics.send_signal({"signal_id": "nobody", "symbol": "AUDUSD", "action": "BUY", "volume": 0.01})
        here.daemons[KILLED].kill()
        await send_all(backend, range(EACH // 2, EACH))
        here.daemons[KILLED].start()

        def done(account: str) -> set[str]:
            return {result["signal_id"] for result in backend.final(account)}

        wanted = {account: {f"{account}-{number}" for number in range(EACH)} for account in ACCOUNTS}
        await eventually(lambda: all(done(a) >= wanted[a] for a in ACCOUNTS), WORK_S, "every signal's result")
        for account in ACCOUNTS:
            assert_own_work(account, backend.final(account))

        await stop_one(here, backend)
        await sum_up(here, backend, tmp_path)
        for (bridge, symbol), ticks in backend.ticks.items():
            assert ticks == sorted(set(ticks)), f"ticks of {symbol} from {bridge!r} out of order"
        for daemon in here.daemons.values():
            daemon.ask_to_stop()
        codes = await asyncio.gather(*(daemon.exit_code(60.0) for daemon in here.daemons.values()))
        assert codes == [0] * BRIDGES


def assert_own_work(account: str, results: list[dict[str, Any]]) -> None:
    """Its own signals, each answered once; those of a symbol left for the terminal in the order they were sent.

    What was on its way there when its bridge was killed, or done and not yet durable, is looked up by the next one: its
    answer comes late, and without the time it left.
    """
    for result in results:
        if result["signal_id"] == "nobody":
            assert (result["status"], result["reason"]) == ("denied", "account_mismatch")
    own = [result for result in results if result["signal_id"] != "nobody"]
    numbers = [int(result["signal_id"].removeprefix(f"{account}-")) for result in own]
    assert sorted(numbers) == list(range(EACH)), (account, numbers)
    left = {number: result["sent_at"] for number, result in zip(numbers, own, strict=True)}
    for symbol in SYMBOLS:
        mine = [number for number in numbers if work(number)[0] == symbol]
        assert mine == sorted(mine) or account == KILLED, (account, symbol, mine)
        times = [left[number] for number in sorted(mine)]
        told = [at for at in times if at is not None]
        assert told == sorted(told), (account, symbol, times)
        assert len(times) == len(told) or account == KILLED, (account, symbol, times)
    expected = {"BUY": "filled", "CLOSE": "closed"}
    fates = {number: (result["status"], result["reason"]) for number, result in zip(numbers, own, strict=True)}
    other = {number: fate for number, fate in fates.items() if fate[0] != expected[work(number)[1]]}
    # Durable, and not sent before the kill: never sent again, and what it would have opened is not there to be closed.
    assert set(other.values()) <= {("abandoned", "not_found"), ("denied", "not_found")}, (account, other)
    assert not any(left[number] for number in other), (account, other)
    assert len(other) <= 2 * len(SYMBOLS) * (account == KILLED), (account, other)


async def stop_one(here: Cluster, backend: Backend) -> None:
    """A stop is its bridge's alone."""
    (here.daemons[HALTED].data / "EMERGENCY_STOP").touch()
    await eventually(lambda: backend.halts.get(HALTED) == "halted", WORK_S, "one bridge halted")
    for account in ACCOUNTS:
        await backend.send(account, f"{account}-after", "AUDUSD", "BUY", volume=0.01)

    def fates() -> dict[str, str]:
        return {a: r["status"] for a in ACCOUNTS for r in backend.final(a) if r["signal_id"] == f"{a}-after"}

    expected = {account: "denied" if account == HALTED else "filled" for account in ACCOUNTS}
    await eventually(lambda: fates() == expected, WORK_S, "nine go on")


async def sum_up(here: Cluster, backend: Backend, folder: Path) -> None:
    """The example of docs/scale.md, run as it stands there, comes to the same sums."""
    page = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    [code] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert "127.0.0.1:19092" in code
    example = await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        "-c",
        code.replace("127.0.0.1:19092", here.bootstrap),
        cwd=folder,
        env=environment({}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert example.stdout is not None
    filled = sum(result["status"] == "filled" for account in ACCOUNTS for result in backend.final(account))
    try:
        async with asyncio.timeout(WORK_S):
            while True:
                line = await example.stdout.readline()
                assert line, "the example ended"
                sums = json.loads(line)
                if (sums["accounts"], sums["results"].get("filled")) == (BRIDGES, filled):
                    break
    finally:
        example.kill()
        await example.wait()
    assert sums["halted"] == [HALTED]
    assert sums["equity"] == pytest.approx(BRIDGES * 1_000_000, rel=0.01)
