"""The dead-man's switch on a Windows Python: the daemon is ended as Task Manager ends it, its host acts and reports."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.eventually import wait_for
from windows.kit import driver
from windows.test_daemon import START_S, STOP_S, bridge

from mt5_bridge.core.deadman import REPORTS
from mt5_bridge.core.model import Deed, OrderRequest, OrderType
from mt5_bridge.terminal.config import TerminalConfig
from mt5_bridge.terminal.session import MT5SessionManager

OURS = 235 << 32 | 7
ARMED = {"DEADMAN_ACTION": "flatten", "DEADMAN_AFTER": "2", "PAPER_SEED": "1"}


def session(folder: Path) -> MT5SessionManager:
    """The same account, from this side."""
    settings = {"DATA_DIR": str(folder / "data"), "PAPER_SEED": "1"}
    return MT5SessionManager(TerminalConfig(backend="paper", settings=settings, history_host=False))


async def fill(folder: Path) -> None:
    """A position and a pending order."""
    async with session(folder) as mt5:
        buy = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, magic=OURS)
        assert (await mt5.place_order(buy)).retcode == 10009
        far = round((await mt5.get_price("EURUSD")).bid * 0.9, 5)
        limit = msgspec.structs.replace(buy, deed=Deed.PENDING, type=OrderType.BUY_LIMIT, price=far)
        assert (await mt5.place_order(limit)).retcode in (10008, 10009)


async def held(folder: Path) -> tuple[int, int]:
    """How many positions and orders there are."""
    async with session(folder) as mt5:
        return len(await mt5.get_positions()), len(await mt5.get_orders())


def reports(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in (folder / "data").glob(REPORTS)]


def test_a_daemon_that_is_ended_and_the_next_one(root: Path, tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path))
    with bridge(root, tmp_path, **ARMED) as running:
        running.wait_line("Dead-man's switch armed", START_S)
        running.wait_line("Journal and terminal agree", START_S)
        running.process.kill()
        running.wait(STOP_S)
    assert wait_for(lambda: [report for report in reports(tmp_path) if report["ended_msc"]], START_S)
    (report,) = reports(tmp_path)
    assert (report["why"], len(report["cancelled"]), len(report["closed"]), report["left"]) == (
        "the daemon ended without a word", 1, 1, {},
    )  # fmt: skip
    assert asyncio.run(held(tmp_path)) == (0, 0)
    with bridge(root, tmp_path, **ARMED) as running:
        line = running.wait_line("Dead-man's switch (flatten)", START_S)
        assert "1 orders cancelled, 1 positions closed, left: nothing" in line
        running.wait_line("Journal and terminal agree", START_S)
        assert reports(tmp_path) == []
        running.interrupt()
        assert running.wait(STOP_S) == 0, running.output


def test_a_restart_at_once_waits_for_the_host_that_acts(root: Path, tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path))
    faults = tmp_path / "faults.yaml"
    faults.write_text("faults:\n  - {function: order_send, kind: delay, seconds: 1.5, gil: true}\n", encoding="utf-8")
    with bridge(root, tmp_path, **ARMED, PAPER_FAULTS=driver.native(faults)) as running:
        running.wait_line("Journal and terminal agree", START_S)
        running.process.kill()
        running.wait(STOP_S)
    with bridge(root, tmp_path, **ARMED) as running:
        line = running.wait_line("Dead-man's switch (flatten)", START_S)
        assert "1 orders cancelled, 1 positions closed, left: nothing" in line
        running.interrupt()
        assert running.wait(STOP_S) == 0, running.output


@pytest.mark.deep
def test_a_host_that_hangs_while_it_acts_is_ended_by_the_next_one(root: Path, tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path))
    faults = tmp_path / "faults.yaml"
    faults.write_text("faults:\n  - {function: order_send, kind: hang, gil: true}\n", encoding="utf-8")
    with bridge(root, tmp_path, **ARMED, PAPER_FAULTS=driver.native(faults)) as first:
        first.wait_line("Journal and terminal agree", START_S)
        first.process.kill()
        with bridge(root, tmp_path, **ARMED) as second:
            line = second.wait_line("Dead-man's switch (flatten)", START_S)
            assert "it was cut off before its end" in line
            second.wait_line("Journal and terminal agree", START_S)
            second.interrupt()
            assert second.wait(STOP_S) == 0, second.output
    assert asyncio.run(held(tmp_path)) == (1, 1)


@pytest.mark.skipif(driver.ON_WINDOWS, reason="there the started process is venv's launcher, not the daemon")
def test_a_daemon_that_hangs(root: Path, tmp_path: Path) -> None:
    """It wakes to a host that has acted and gone, and starts another."""
    asyncio.run(fill(tmp_path))
    with bridge(root, tmp_path, **ARMED) as running:
        running.wait_line("Journal and terminal agree", START_S)
        running.process.send_signal(signal.SIGSTOP)
        assert wait_for(lambda: [report for report in reports(tmp_path) if report["ended_msc"]], START_S)
        assert reports(tmp_path)[0]["why"] == "the daemon was silent"
        running.process.send_signal(signal.SIGCONT)
        line = running.wait_line("Dead-man's switch (flatten)", START_S)
        assert "1 orders cancelled, 1 positions closed, left: nothing" in line
        running.interrupt()
        assert running.wait(STOP_S) == 0, running.output
    assert asyncio.run(held(tmp_path)) == (0, 0)


def test_an_end_in_order_closes_nothing(root: Path, tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path))
    with bridge(root, tmp_path, **ARMED) as running:
        running.wait_line("Journal and terminal agree", START_S)
        running.interrupt()
        assert running.wait(STOP_S) == 0, running.output
    assert asyncio.run(held(tmp_path)) == (1, 1)
    assert reports(tmp_path) == []
