"""The dead-man's switch between real processes: a daemon that dies or hangs, its host, and the paper account."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import psutil
import pytest
from support.eventually import eventually, wait_for

from mt5_bridge.core.deadman import REPORTS, Report
from mt5_bridge.core.model import Deed, OrderRequest, OrderType
from mt5_bridge.terminal.config import TerminalConfig
from mt5_bridge.terminal.process import child_environment
from mt5_bridge.terminal.raw import DeadManArgs
from mt5_bridge.terminal.session import MT5SessionManager

OURS = 235 << 32 | 7
PARENT = Path(__file__).parents[1] / "support/parent.py"
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")


class Parent:
    """A daemon in a process of its own."""

    def __init__(self, config: TerminalConfig, folder: Path) -> None:
        place = folder / "config.json"
        place.write_bytes(msgspec.json.encode(config))
        self.log = folder / "parent.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(PARENT), str(place)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment(),
            )
        self.host = self.connected()

    @property
    def said(self) -> list[str]:
        return self.log.read_text().splitlines()

    def connected(self, times: int = 1) -> psutil.Process:
        """The host of its latest connection."""

        def pids() -> list[str]:
            return [line.split()[1] for line in self.said if line.startswith("connected")]

        assert wait_for(lambda: len(pids()) >= times, 20, "a connection"), self.said
        return psutil.Process(int(pids()[-1]))

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def heard(self, word: str) -> None:
        wait_for(lambda: word in self.said, 10, word)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.kill()
        with contextlib.suppress(psutil.Error):
            self.host.kill()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()


class Place:
    """A folder with a paper account, and the daemons on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()
        self.faults = folder / "faults.yaml"
        self.faults.write_text("faults: []\n")
        self.parents: list[Parent] = []

    def config(self, deadman: DeadManArgs | None = None) -> TerminalConfig:
        return TerminalConfig(
            backend="paper",
            settings={"DATA_DIR": str(self.data), "PAPER_SEED": "1", "PAPER_FAULTS": str(self.faults)},
            lock=str(self.data / "host.lock"),
            deadman=deadman,
            history_host=False,
        )

    def parent(
        self, action: Literal["cancel", "flatten"] = "flatten", after: float | None = None, fault: str = ""
    ) -> Parent:
        self.faults.write_text(f"faults:\n  - {fault}\n" if fault else "faults: []\n")
        args = DeadManArgs(action, after, "all", 235, str(self.data))
        self.parents.append(Parent(self.config(args), self.folder))
        return self.parents[-1]

    @contextlib.asynccontextmanager
    async def next(self) -> AsyncIterator[MT5SessionManager]:
        """The next daemon's session: it has to wait for a host that acts."""
        self.faults.write_text("faults: []\n")
        async with MT5SessionManager(self.config()) as session:
            yield session

    async def fill(self) -> None:
        """Two positions and a pending order."""
        async with self.next() as session:
            buy = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, magic=OURS)
            for request in (buy, msgspec.structs.replace(buy, type=OrderType.SELL, volume=0.2)):
                assert (await session.place_order(request)).retcode == 10009
            far = round((await session.get_price("EURUSD")).bid * 0.9, 5)
            pending = OrderRequest(
                deed=Deed.PENDING, symbol="EURUSD", type=OrderType.BUY_LIMIT, volume=0.1, price=far, magic=OURS
            )
            assert (await session.place_order(pending)).retcode in (10008, 10009)

    async def held(self) -> tuple[int, int]:
        """How many positions and orders there are."""
        async with self.next() as session:
            return len(await session.get_positions()), len(await session.get_orders())

    async def closes(self) -> int:
        now = time.time_ns() // 1_000_000
        async with self.next() as session:
            deals = await session.get_history_deals(now - 86_400_000, now + 86_400_000)
        return sum(deal.position_id != 0 and deal.entry.value == 1 for deal in deals)

    def reports(self) -> list[Report]:
        return [msgspec.json.decode(path.read_bytes(), type=Report) for path in self.data.glob(REPORTS)]


@pytest.fixture
async def place(tmp_path: Path) -> Any:
    made = Place(tmp_path)
    await made.fill()
    yield made
    for parent in made.parents:
        parent.close()


def gone(process: psutil.Process) -> None:
    def ended() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return process.status() == psutil.STATUS_ZOMBIE
        return True

    wait_for(ended, 15, "the host's end")


@pytest.mark.parametrize(("action", "left"), [("flatten", (0, 0)), ("cancel", (2, 0))])
async def test_a_killed_daemon(place: Place, action: Literal["cancel", "flatten"], left: tuple[int, int]) -> None:
    parent = place.parent(action)
    parent.kill()
    gone(parent.host)
    assert await place.held() == left
    (report,) = place.reports()
    assert (report.why, len(report.cancelled), len(report.closed)) == (
        "the daemon ended without a word", 1, 2 - left[0],
    )  # fmt: skip
    assert report.ended_msc


async def test_a_daemon_that_ends_in_order(place: Place) -> None:
    parent = place.parent()
    parent.tell("leave")
    assert parent.process.wait(10) == 0
    gone(parent.host)
    assert await place.held() == (2, 1)
    assert place.reports() == []


async def test_a_daemon_that_ends_without_a_bye_waits_for_its_host(place: Place) -> None:
    parent = place.parent()
    parent.tell("fail")
    assert parent.process.wait(20) == 0
    gone(parent.host)
    assert await place.held() == (0, 0)


@posix
async def test_a_daemon_that_hangs(place: Place) -> None:
    """It wakes to a host that has acted and gone: it starts another, which the account's new state meets."""
    parent = place.parent(after=0.5)
    parent.process.send_signal(signal.SIGSTOP)
    gone(parent.host)
    (report,) = place.reports()
    assert report.why == "the daemon was silent"
    parent.process.send_signal(signal.SIGCONT)
    assert parent.connected(2).pid != parent.host.pid
    parent.tell("count")
    parent.heard("positions 0")
    parent.host = parent.connected(2)
    parent.tell("leave")
    assert parent.process.wait(10) == 0


@posix
async def test_a_daemon_that_hangs_before_it_has_read_a_long_answer(place: Place) -> None:
    parent = place.parent(after=0.5)
    parent.tell("ticks")
    gone(parent.host)
    assert len(place.reports()) == 1
    parent.kill()
    assert await place.held() == (0, 0)


@posix
async def test_the_pc_sleeps(place: Place) -> None:
    """Both stand still for much longer than the daemon may be silent, and wake: nobody is dead."""
    parent = place.parent(after=1.0)
    parent.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.4)  # times that pass are what the test is about: some silence is counted already
    parent.host.send_signal(signal.SIGSTOP)
    await asyncio.sleep(2.0)
    for process in (parent.host, parent.process):
        process.send_signal(signal.SIGCONT)
    await asyncio.sleep(1.5)  # more than the silence that is death: only beats go over the pipe
    assert parent.host.is_running()
    parent.tell("count")
    parent.heard("positions 2")
    assert place.reports() == []


@pytest.mark.parametrize("gil", ["true", "false"])
async def test_a_daemon_that_dies_while_its_host_hangs_in_a_call(place: Place, gil: str) -> None:
    """Nothing can be done during the call; after it everything is."""
    parent = place.parent(fault=f"{{function: symbols_get, kind: delay, seconds: 2.5, gil: {gil}}}")
    parent.tell("symbols")
    parent.heard("symbols")
    parent.kill()
    assert await place.held() == (0, 0), "the next daemon waited for the acting host"
    gone(parent.host)
    assert await place.closes() == 2
    assert len(place.reports()) == 1


async def test_a_call_longer_than_the_silence_is_none(place: Place) -> None:
    parent = place.parent(after=0.5, fault="{function: symbols_get, kind: delay, seconds: 1.5, gil: true, times: 1}")
    parent.tell("symbols")
    parent.tell("count")
    parent.heard("positions 2")
    assert place.reports() == []


async def test_a_restart_while_the_old_host_acts(place: Place) -> None:
    """The new host opens nothing before the old one is done: no position is closed twice."""
    parent = place.parent(fault="{function: order_send, kind: delay, seconds: 0.7}")
    parent.kill()
    await eventually(lambda: any(report.acts for report in place.reports()), 10, "the old host at work")
    assert await place.held() == (0, 0)
    gone(parent.host)
    (report,) = place.reports()
    assert report.ended_msc
    assert await place.closes() == 2


@pytest.mark.deep
@pytest.mark.parametrize("function", ["symbols_get", "order_send"])
async def test_a_restart_while_the_old_host_hangs_for_ever(place: Place, function: str) -> None:
    """Before it could act, or while it does."""
    parent = place.parent(fault=f"{{function: {function}, kind: hang, gil: true}}")
    parent.tell("symbols")
    parent.heard("symbols")
    parent.kill()
    await eventually(lambda: bool(place.reports()) is (function == "order_send"))
    assert await place.held() == (2, 1), "the new daemon ended it"
    gone(parent.host)


async def test_without_a_switch_the_host_ends_with_its_daemon(place: Place) -> None:
    place.parents.append(parent := Parent(place.config(), place.folder))
    parent.kill()
    gone(parent.host)
    assert await place.held() == (2, 1)
