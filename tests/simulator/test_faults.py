"""Trouble on demand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mt5_bridge.simulator as mt5
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.faults import CRASH_EXIT_CODE, Fault, FaultInjector

BUY: dict[str, Any] = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0}


class Hung(Exception):
    """Raised by a test's sleep, where a real call would never return."""


class Died(Exception):
    """Raised where the process would end."""


@pytest.fixture
def slept(market: MarketControl) -> Iterator[list[float]]:
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        if seconds >= 3600:
            raise Hung
        naps.append(seconds)

    def die(code: int) -> None:
        assert code == CRASH_EXIT_CODE
        raise Died

    market.terminal.faults = FaultInjector(sleep=sleep, die=die)
    yield naps
    mt5.clear_faults()


def test_the_nth_call_fails_once_and_is_not_executed(slept: list[float]) -> None:
    mt5.inject(function="order_send", kind="none", nth=2, code=mt5.RES_E_INTERNAL_FAIL_SEND)
    assert mt5.order_send(BUY).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.order_send(BUY) is None
    assert mt5.last_error() == (mt5.RES_E_INTERNAL_FAIL_SEND, "IPC send failed")
    assert mt5.order_send(BUY).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.positions_total() == 2


def test_executed_and_then_none(slept: list[float]) -> None:
    mt5.inject(function="order_send", kind="executed_then_none", times=1, text="lost")
    assert mt5.order_send({**BUY, "magic": 5}) is None
    assert mt5.last_error() == (mt5.RES_E_INTERNAL_FAIL_TIMEOUT, "lost")
    assert [position.magic for position in mt5.positions_get()] == [5]


@pytest.mark.parametrize("execute", [True, False])
def test_a_retcode_that_may_be_a_lie(slept: list[float], execute: bool) -> None:
    mt5.inject(function="order_send", kind="retcode", retcode=mt5.TRADE_RETCODE_TIMEOUT, execute=execute, times=1)
    result = mt5.order_send(BUY)
    assert (result.retcode, result.order, result.deal) == (mt5.TRADE_RETCODE_TIMEOUT, 0, 0)
    assert (result.comment, result.request.volume) == ("Request timed out", 0.1)
    assert mt5.positions_total() == execute
    mt5.inject(function="order_check", kind="retcode", retcode=mt5.TRADE_RETCODE_REJECT, times=1)
    assert mt5.order_check(BUY).retcode == mt5.TRADE_RETCODE_REJECT
    mt5.inject(function="positions_total", kind="retcode", times=1)
    assert mt5.positions_total() == execute


@pytest.mark.parametrize("when", ["before", "after"])
def test_delay_hang_and_crash_around_the_effect(slept: list[float], when: str) -> None:
    mt5.inject(function="order_send", kind="delay", seconds=2.5, when=when, times=1)
    assert mt5.order_send(BUY).retcode == mt5.TRADE_RETCODE_DONE
    assert slept == [2.5]
    for kind, error in (("hang", Hung), ("crash", Died)):
        before = mt5.positions_total()
        mt5.inject(function="order_send", kind=kind, when=when, times=1)
        with pytest.raises(error):
            mt5.order_send(BUY)
        assert mt5.positions_total() - before == (when == "after")


def test_autotrading_can_be_switched_off_in_the_middle(slept: list[float]) -> None:
    mt5.inject(function="order_send", kind="autotrading_off", nth=1)
    assert mt5.order_send(BUY).retcode == mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
    assert mt5.terminal_info().trade_allowed is False
    mt5.inject(function="*", kind="autotrading_on", times=1)
    assert mt5.order_send(BUY).retcode == mt5.TRADE_RETCODE_DONE
    mt5.inject(function="*", kind="autotrading_off", times=1)
    assert mt5.positions_total() == 1
    mt5.clear_faults()
    assert mt5.terminal_info().trade_allowed is True


def test_another_account_answers_and_the_clock_jumps(slept: list[float], market: MarketControl) -> None:
    mt5.inject(function="account_info", kind="account_swap", login=99, nth=1)
    assert mt5.account_info().login == 99
    mt5.clear_faults()
    assert mt5.account_info().login == 5000001
    mt5.inject(function="symbol_info_tick", kind="clock_offset", seconds=10800, nth=1)
    before = mt5.symbol_info_tick("EURUSD").time
    market.advance(1)
    market.tick("EURUSD", 1.1, 1.1001)
    assert mt5.symbol_info_tick("EURUSD").time == before + 3601


def test_probability_is_drawn_from_the_seed() -> None:
    def strikes(seed: int) -> list[bool]:
        injector = FaultInjector(seed)
        injector.add(Fault(function="*", kind="none", probability=0.5))
        return [bool(injector.strike("order_send")) for _ in range(50)]

    assert strikes(1) == strikes(1) != strikes(2)
    assert 10 < sum(strikes(1)) < 40


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("f.yaml", "seed: 4\nfaults:\n  - {function: account_info, kind: none, nth: 1, code: -10004}\n"),
        ("f.toml", '[[faults]]\nfunction = "account_info"\nkind = "none"\nnth = 1\ncode = -10004\n'),
    ],
)
def test_a_script_is_read_at_initialize(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    mt5.install(clock="manual", PAPER_FAULTS=path)
    assert mt5.initialize()
    assert mt5.account_info() is None
    assert mt5.last_error() == (mt5.RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
    assert mt5.initialize()
    assert mt5.account_info() is not None
    mt5.uninstall()


@pytest.mark.parametrize("text", ["faults: [", "faults: [{function: x, kind: explode}]", "seed: 1", None])
def test_a_bad_script_is_told(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "f.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="PAPER_FAULTS"):
        FaultInjector().load(path)
