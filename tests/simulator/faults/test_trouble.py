"""What each kind of fault does to a call, and that the books stay right behind it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.paper import begin

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator import MarketControl
from mt5_bridge.simulator.books.store import Store
from mt5_bridge.simulator.faults.injector import CRASH_EXIT_CODE, FaultInjector

Start = Callable[..., MarketControl]
ALWAYS = (0, 2**31 - 1)
BUY: dict[str, Any] = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0}
PENDING: dict[str, Any] = {"action": 5, "symbol": "EURUSD", "volume": 0.1, "type": 2, "price": 1.0}


class Hung(Exception):
    """Raised by a test's sleep, where a real call would never return."""


class Died(Exception):
    """Raised where the process would end."""


@pytest.fixture
def slept(market: MarketControl) -> Iterator[list[float]]:
    """How long the terminal made its caller wait; times with the lock held are negative."""
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        if seconds >= 3600:
            raise Hung
        naps.append(seconds)

    def die(code: int) -> None:
        assert code == CRASH_EXIT_CODE
        raise Died

    market.terminal.faults = FaultInjector(sleep=sleep, hold=lambda seconds: sleep(-seconds), die=die)
    yield naps
    mt5.clear_faults()


def send(**changes: Any) -> Any:
    return mt5.order_send({**BUY, **changes})


def test_an_unharmed_call_is_as_ever(market: MarketControl) -> None:
    mt5.inject(kind="none", nth=100)
    assert send().retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.positions_total() == 1


# Waiting and dying.


@pytest.mark.parametrize("when", ["before", "after"])
def test_delay_hang_and_crash_around_the_effect(slept: list[float], when: str) -> None:
    mt5.inject(function="order_send", kind="delay", seconds=2.5, when=when, times=1)
    assert send().retcode == mt5.TRADE_RETCODE_DONE
    assert slept == [2.5]
    for kind, error in (("hang", Hung), ("crash", Died)):
        before = mt5.positions_total()
        mt5.inject(function="order_send", kind=kind, when=when, times=1)
        with pytest.raises(error):
            send()
        assert mt5.positions_total() - before == (when == "after")


def test_a_delay_may_stop_the_whole_process_as_the_package_does(slept: list[float]) -> None:
    mt5.inject(kind="delay", function="account_info", gil=True)
    assert mt5.account_info()
    assert slept == [-5.0]


# No answer, and false ones.


def test_no_answer_and_not_executed(slept: list[float]) -> None:
    mt5.inject(function="order_send", kind="none", nth=2, code=mt5.RES_E_INTERNAL_FAIL_SEND)
    assert send().retcode == mt5.TRADE_RETCODE_DONE
    assert send() is None
    assert mt5.last_error() == (mt5.RES_E_INTERNAL_FAIL_SEND, "IPC send failed")
    assert send().retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.positions_total() == 2


def test_no_answer_has_each_functions_own_failure_value(slept: list[float]) -> None:
    mt5.inject(function="*", kind="none", code=mt5.RES_E_INTERNAL_FAIL_TIMEOUT)
    assert mt5.positions_get() is mt5.copy_ticks_from("EURUSD", 0, 1, -1) is mt5.symbol_info("EURUSD") is None
    assert mt5.symbol_select("EURUSD") is False
    assert mt5.version() == (0, 0, "")
    assert mt5.last_error() == (mt5.RES_E_INTERNAL_FAIL_TIMEOUT, "IPC timeout")
    assert mt5.market_book_add("EURUSD") is False
    assert mt5.last_error() == (mt5.RES_S_OK, "Success")
    assert mt5.shutdown() is True


def test_a_request_that_cannot_be_read_is_refused_before_any_trouble(slept: list[float]) -> None:
    mt5.inject(function="order_send", kind="none")
    assert send(volume=1) is None
    assert mt5.last_error() == (mt5.RES_E_INVALID_PARAMS, 'Invalid "volume" argument')


def test_executed_and_then_none(slept: list[float]) -> None:
    mt5.inject(function="order_send", kind="executed_then_none", times=1, text="lost")
    assert send(magic=5) is None
    assert mt5.last_error() == (mt5.RES_E_INTERNAL_FAIL_TIMEOUT, "lost")
    assert [position.magic for position in mt5.positions_get()] == [5]


@pytest.mark.parametrize(
    ("rule", "retcode", "comment", "executed"),
    [
        ({"kind": "executed_then_timeout"}, 10012, "Request timed out", True),
        ({"kind": "timeout"}, 10012, "Request timed out", False),
        ({"kind": "no_connection"}, 10031, None, False),
        ({"kind": "no_connection", "execute": True}, 10031, None, True),
        ({"kind": "server_error"}, 10011, None, False),
        ({"kind": "server_error", "execute": True}, 10011, None, True),
        ({"kind": "retcode", "retcode": 10024}, 10024, None, False),
        ({"kind": "retcode", "retcode": 77777, "execute": True}, 77777, "", True),
    ],
)
def test_a_retcode_that_may_be_a_lie(
    slept: list[float], rule: dict[str, Any], retcode: int, comment: str | None, executed: bool
) -> None:
    mt5.inject(times=1, **rule)
    result = send(magic=7)
    assert (result.retcode, result.order, result.deal, result.volume, result.price) == (retcode, 0, 0, 0.0, 0.0)
    assert comment is None or result.comment == comment
    assert (result.request.volume, result.request.magic) == (0.1, 7)
    assert mt5.positions_total() == executed
    assert [type(field) for field in result[:10]] == [type(field) for field in send()[:10]]
    assert send().request_id == result.request_id + 2


def test_a_false_check(slept: list[float]) -> None:
    mt5.inject(function="order_check", kind="retcode", retcode=mt5.TRADE_RETCODE_REJECT, times=1)
    assert mt5.order_check(BUY).retcode == mt5.TRADE_RETCODE_REJECT
    assert mt5.order_check(BUY).retcode == 0


def test_a_requote_has_the_new_prices_and_is_not_executed(slept: list[float]) -> None:
    mt5.inject(kind="requote")
    result = send()
    assert (result.retcode, result.comment) == (mt5.TRADE_RETCODE_REQUOTE, "Requote")
    assert (result.bid, result.ask, result.deal) == (1.1, 1.1001, 0)
    assert mt5.positions_total() == 0
    assert send().retcode == mt5.TRADE_RETCODE_DONE


def test_buy_tries_again_after_requotes(slept: list[float]) -> None:
    mt5.inject(kind="requote", times=9)
    assert mt5.Buy("EURUSD", 0.1).retcode == mt5.TRADE_RETCODE_DONE
    mt5.inject(kind="requote", times=10)
    assert mt5.Buy("EURUSD", 0.1).retcode == mt5.TRADE_RETCODE_REQUOTE
    assert mt5.Close("EURUSD") is True


SERVER = ("timeout", "executed_then_timeout", "server_error", "no_connection", "requote", "retcode", "late_fill")


@pytest.mark.parametrize("kind", SERVER)
@pytest.mark.parametrize(
    ("account", "changes", "retcode"),
    [
        ({}, {"symbol": "NOPE"}, None),
        ({}, {"symbol": "GBPUSD"}, mt5.TRADE_RETCODE_PRICE_OFF),
        ({}, {"action": 77}, mt5.TRADE_RETCODE_INVALID),
        ({}, {"price": -1.0}, mt5.TRADE_RETCODE_INVALID_PRICE),
        ({"trade_allowed": False}, {}, mt5.TRADE_RETCODE_TRADE_DISABLED),
        ({"trade_expert": False}, {}, mt5.TRADE_RETCODE_SERVER_DISABLES_AT),
        ({"investor_password": "look"}, {}, mt5.TRADE_RETCODE_TRADE_DISABLED),
    ],
)
def test_what_the_terminal_refuses_no_server_answers(
    start: Start, kind: str, account: dict[str, Any], changes: dict[str, Any], retcode: int | None
) -> None:
    market = start(account=account)
    if account.get("investor_password"):
        assert mt5.initialize(login=5000001, password="look")
    for _ in range(2):
        result = send(**changes)
        assert result == retcode if result is None else result.retcode == retcode
        assert mt5.last_error()[0] == (mt5.RES_E_NOT_FOUND if retcode is None else mt5.RES_S_OK)
        mt5.inject(kind=kind, times=5)
    market.advance(10)
    assert mt5.positions_get() == ()


@pytest.mark.parametrize("kind", SERVER)
def test_no_order_leaves_the_terminal_with_autotrading_off(market: MarketControl, kind: str) -> None:
    mt5.inject(kind=kind, times=5)
    mt5.inject(kind="autotrading_off")
    for _ in range(2):
        assert send().retcode == mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
    market.advance(10)
    assert mt5.positions_get() == ()


@pytest.mark.parametrize("kind", [*SERVER, "none", "executed_then_none", "delay", "crash", "terminal_restart"])
def test_without_a_connection_there_is_no_trouble_and_none_is_used_up(slept: list[float], kind: str) -> None:
    mt5.inject(kind=kind, function="order_send", times=1)
    mt5.shutdown()
    assert send() is None
    assert mt5.last_error() == (mt5.RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
    assert slept == []
    assert mt5.initialize()
    with suppress(Died):
        result = send()
        assert slept or result is None or result.retcode != mt5.TRADE_RETCODE_DONE


def test_one_who_only_reads_sends_nothing_late(tmp_path: Path) -> None:
    begin(tmp_path)
    begin(tmp_path, role="history")
    mt5.inject(kind="late_fill")
    assert send().retcode == mt5.TRADE_RETCODE_TRADE_DISABLED
    begin(tmp_path).advance(10)
    assert mt5.positions_get() == ()
    mt5.uninstall()


def test_a_false_check_comes_after_the_terminals_own(market: MarketControl) -> None:
    mt5.inject(function="order_check", kind="retcode", retcode=mt5.TRADE_RETCODE_REJECT)
    market.terminal.autotrading = False
    assert mt5.order_check(BUY).retcode == mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
    assert mt5.order_check({**BUY, "symbol": "NOPE"}).retcode == mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
    market.terminal.autotrading = True
    assert mt5.order_check({**BUY, "symbol": "NOPE"}) is None
    assert mt5.order_check(BUY).retcode == mt5.TRADE_RETCODE_REJECT


@pytest.mark.parametrize("retcode", [mt5.TRADE_RETCODE_DONE, mt5.TRADE_RETCODE_PLACED])
def test_done_and_nothing_told_but_the_order(market: MarketControl, retcode: int) -> None:
    mt5.inject(kind="bare_done", retcode=retcode)
    mt5.inject(kind="history_lag", times=1)
    result = send(magic=6)
    assert (result.retcode, result.request.magic, result.request_id) == (retcode, 6, 1)
    assert (result.deal, result.volume, result.price, result.bid, result.ask) == (0, 0.0, 0.0, 0.0, 0.0)
    assert [position.ticket for position in mt5.positions_get()] == [result.order]
    assert mt5.history_deals_get(ticket=result.order) == ()
    market.advance(3)
    [deal] = mt5.history_deals_get(ticket=result.order)
    assert (deal.volume, deal.magic) == (0.1, 6)
    assert mt5.order_send(PENDING).order == mt5.orders_get()[0].ticket
    mt5.inject(kind="partial_fill", times=1)
    assert (half := send(volume=0.2)).retcode == mt5.TRADE_RETCODE_DONE_PARTIAL
    assert half.volume == 0.0
    assert send(volume=90.0).retcode == mt5.TRADE_RETCODE_NO_MONEY, "what was refused is told as ever"


# Fills that are late, or less than asked for.


def test_a_late_fill_comes_at_its_own_time_and_price(market: MarketControl) -> None:
    mt5.inject(kind="late_fill", seconds=5)
    sent_at = mt5.symbol_info_tick("EURUSD").time_msc
    result = send(magic=3)
    assert (result.retcode, result.order) == (mt5.TRADE_RETCODE_TIMEOUT, 0)
    market.advance(4.9)
    assert mt5.positions_get() == mt5.history_deals_get(*ALWAYS)[1:] == ()
    market.tick("EURUSD", 1.2, 1.2001)
    market.advance(10)
    market.tick("EURUSD", 1.3, 1.3001)
    [position] = mt5.positions_get()
    assert (position.price_open, position.magic, position.time_msc) == (1.2001, 3, sent_at + 5000)
    assert position.price_current == 1.3


def test_a_late_fill_does_not_wait_for_whoever_asked(market: MarketControl) -> None:
    """Its stop is hit before anybody looks again."""
    mt5.inject(kind="late_fill", seconds=2, retcode=mt5.TRADE_RETCODE_CONNECTION)
    assert send(sl=1.05).retcode == mt5.TRADE_RETCODE_CONNECTION
    assert mt5.shutdown()
    market.advance(3)
    market.tick("EURUSD", 1.04, 1.0401)
    market.advance(1)
    assert mt5.initialize()
    assert mt5.positions_total() == 0
    entries = [deal.entry for deal in mt5.history_deals_get(*ALWAYS)]
    assert entries == [mt5.DEAL_ENTRY_IN, mt5.DEAL_ENTRY_IN, mt5.DEAL_ENTRY_OUT]


def test_a_late_fill_outlives_the_process(tmp_path: Path) -> None:
    mt5.install(clock="manual", DATA_DIR=tmp_path)
    assert mt5.initialize()
    assert mt5.symbol_select("EURUSD")
    mt5.inject(kind="late_fill", seconds=5)
    send(magic=8)
    market = mt5.install(clock="manual", DATA_DIR=tmp_path)
    assert mt5.initialize()
    assert mt5.positions_total() == 0
    market.advance(6)
    assert [position.magic for position in mt5.positions_get()] == [8]
    mt5.uninstall()
    market = mt5.install(clock="manual", DATA_DIR=tmp_path)
    assert mt5.initialize()
    market.advance(12)
    assert mt5.positions_total() == 1, "it is filled once"
    mt5.uninstall()


def test_what_never_left_the_terminal_is_not_filled_late(market: MarketControl) -> None:
    mt5.inject(kind="late_fill", times=2)
    market.terminal.autotrading = False
    assert send().retcode == mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
    market.terminal.autotrading = True
    assert send(symbol="NOPE") is None
    assert mt5.last_error()[0] == mt5.RES_E_NOT_FOUND
    market.advance(10)
    assert mt5.positions_total() == 0


@pytest.mark.parametrize("connected", [True, False])
def test_clearing_the_faults_stops_what_is_on_its_way(market: MarketControl, connected: bool) -> None:
    mt5.inject(kind="late_fill")
    send()
    if not connected:
        mt5.shutdown()
    mt5.clear_faults()
    assert mt5.initialize()
    market.advance(10)
    assert mt5.positions_total() == 0
    mt5.inject(kind="late_fill")
    send()
    assert mt5.initialize()
    market.advance(10)
    assert mt5.positions_total() == 1, "what is sent after that is filled"


def test_a_late_fill_is_by_the_rules_of_its_moment(tmp_path: Path) -> None:
    begin(tmp_path)
    mt5.inject(kind="late_fill")
    send()
    market = begin(tmp_path, account={"trade_allowed": False})
    market.advance(10)
    assert mt5.positions_total() == 0
    begin(tmp_path).advance(20)
    assert mt5.positions_total() == 0, "it has had its turn"
    mt5.uninstall()


def test_a_late_order_that_cannot_be_kept_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    market = begin(tmp_path)
    monkeypatch.setattr(Store, "delay", full)
    mt5.inject(kind="late_fill")
    assert send().retcode == mt5.TRADE_RETCODE_REJECT
    market.advance(10)
    assert mt5.positions_total() == 0
    mt5.uninstall()


def test_a_partial_fill_tells_the_true_volume(market: MarketControl) -> None:
    mt5.inject(kind="partial_fill", times=1)
    result = send(volume=0.25, magic=4)
    assert (result.retcode, result.volume) == (mt5.TRADE_RETCODE_DONE_PARTIAL, 0.12)
    assert (result.request.volume, result.request.magic) == (0.25, 4)
    [position] = mt5.positions_get()
    assert (position.ticket, position.volume, position.magic) == (result.order, 0.12, 4)
    [deal] = mt5.history_deals_get(ticket=result.order)
    assert (deal.ticket, deal.volume) == (result.deal, 0.12)
    [order] = mt5.history_orders_get(ticket=result.order)
    assert (order.volume_initial, order.volume_current, order.state) == (0.25, 0.13, mt5.ORDER_STATE_CANCELED)


def test_a_partial_fill_ends_with_its_call(market: MarketControl) -> None:
    mt5.inject(kind="partial_fill", times=1)
    mt5.inject(kind="none", times=1)
    assert send(volume=0.2) is None
    assert send(volume=0.2).volume == 0.2
    mt5.inject(kind="partial_fill", times=1)
    mt5.inject(kind="executed_then_timeout", times=1)
    assert send(volume=0.4).retcode == mt5.TRADE_RETCODE_TIMEOUT
    assert [position.volume for position in mt5.positions_get()] == [0.2, 0.2]


def test_a_partial_close_leaves_the_rest_open(market: MarketControl) -> None:
    ticket = send(volume=0.3).order
    mt5.inject(kind="partial_fill", share=0.9, times=1)
    result = send(volume=0.3, type=1, position=ticket)
    assert (result.retcode, result.volume) == (mt5.TRADE_RETCODE_DONE_PARTIAL, 0.27)
    assert [position.volume for position in mt5.positions_get()] == [0.03]


@pytest.mark.parametrize(
    ("changes", "retcode", "volume"),
    [
        ({"volume": 0.01}, 10009, 0.01),
        ({"volume": 0.001}, 10014, 0.0),
        ({"volume": float("nan")}, 10014, 0.0),
        ({"volume": 90.0}, 10019, 0.0),
        ({"action": 5, "type": 2, "price": 1.0}, 10009, 0.1),
    ],
)
def test_what_cannot_be_divided_is_as_ever(
    market: MarketControl, changes: dict[str, Any], retcode: int, volume: float
) -> None:
    mt5.inject(kind="partial_fill")
    result = send(**changes)
    assert (result.retcode, result.volume) == (retcode, volume)


# Comments.


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        ({"kind": "comment_rewritten"}, ""),
        ({"kind": "comment_rewritten", "text": "[broker]"}, "[broker]"),
        ({"kind": "comment_rewritten", "text": "x" * 30}, "x" * 30),
        ({"kind": "comment_rewritten", "text": "x" * 40}, "x" * 31),
        ({"kind": "comment_truncated"}, "signal 123456789"),
        ({"kind": "comment_truncated", "length": 3}, "sig"),
    ],
)
def test_the_server_changes_the_comment_and_keeps_the_magic(
    market: MarketControl, rule: dict[str, Any], shown: str
) -> None:
    mt5.inject(**rule)
    result = send(comment="signal 1234567890", magic=42)
    assert result.request.comment == "signal 1234567890", "the terminal echoes what it was asked"
    [position] = mt5.positions_get()
    [deal] = mt5.history_deals_get(ticket=result.order)
    [order] = mt5.history_orders_get(ticket=result.order)
    for record in (position, deal, order):
        assert (record.comment, record.magic) == (shown, 42)


def test_faults_of_one_call_add_up(market: MarketControl) -> None:
    mt5.inject(kind="comment_truncated", length=2)
    mt5.inject(kind="partial_fill", times=1)
    mt5.inject(kind="comment_rewritten", text="x", nth=2)
    result = send(volume=0.2, comment="abc")
    assert (result.retcode, result.request.volume, result.request.comment) == (10010, 0.2, "abc")
    assert [(position.volume, position.comment) for position in mt5.positions_get()] == [(0.1, "ab")]
    send(comment="abc")
    assert mt5.positions_get()[1].comment == "x"


# The terminal.


def test_autotrading_can_be_switched_off_in_the_middle(slept: list[float]) -> None:
    mt5.inject(kind="autotrading_off", nth=2)
    assert send().retcode == mt5.TRADE_RETCODE_DONE
    assert send().retcode == mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
    assert mt5.terminal_info().trade_allowed is False
    mt5.inject(function="*", kind="autotrading_on")
    assert send().retcode == mt5.TRADE_RETCODE_DONE
    mt5.inject(function="*", kind="autotrading_off")
    assert mt5.positions_total() == 2
    mt5.clear_faults()
    assert mt5.terminal_info().trade_allowed is True


def test_autotrading_comes_back_by_itself_after_a_while(market: MarketControl) -> None:
    mt5.inject(kind="autotrading_off", seconds=30)
    assert send().retcode == mt5.TRADE_RETCODE_CLIENT_DISABLES_AT
    market.advance(29)
    assert mt5.terminal_info().trade_allowed is False
    market.advance(1)
    assert mt5.terminal_info().trade_allowed is True
    assert send().retcode == mt5.TRADE_RETCODE_DONE


def test_another_account_answers_the_pipe_until_the_next_connection(market: MarketControl) -> None:
    send(magic=1)
    mt5.inject(kind="account_swap", login=99, server="Other-Demo")
    info = mt5.account_info()
    assert (info.login, info.server, info.balance) == (99, "Other-Demo", 10000.0)
    assert mt5.positions_total() == 0
    assert send(magic=2).retcode == mt5.TRADE_RETCODE_DONE
    assert mt5.initialize()
    assert mt5.account_info().login == 5000001
    assert [position.magic for position in mt5.positions_get()] == [1]
    mt5.inject(kind="account_swap")
    assert mt5.account_info().login == 5000002
    mt5.clear_faults()
    assert mt5.account_info().login == 5000001


def test_a_swapped_account_gives_way_to_a_login_and_to_another_swap(market: MarketControl) -> None:
    mt5.inject(kind="account_swap", times=2)
    assert mt5.account_info().login == mt5.account_info().login == 5000002
    assert mt5.login(5000001, "paper")
    send()
    assert mt5.account_info().login == 5000001
    assert mt5.shutdown()
    mt5.inject(kind="account_swap", function="account_info")
    assert mt5.account_info() is None
    assert mt5.last_error()[0] == mt5.RES_E_INTERNAL_FAIL_CONNECT


def test_the_servers_clock_jumps(market: MarketControl) -> None:
    mt5.inject(function="symbol_info_tick", kind="clock_offset", nth=1)
    before = mt5.symbol_info_tick("EURUSD").time
    market.advance(1)
    market.tick("EURUSD", 1.1, 1.1001)
    assert mt5.symbol_info_tick("EURUSD").time == before + 3601, "from UTC+2 to UTC+3"


@pytest.mark.parametrize(
    ("when", "code", "executed"),
    [("before", mt5.RES_E_INTERNAL_FAIL_SEND, False), ("after", mt5.RES_E_INTERNAL_FAIL_RECEIVE, True)],
)
def test_the_terminal_restarts_under_an_order(market: MarketControl, when: str, code: int, executed: bool) -> None:
    build = mt5.version()[1]
    assert mt5.market_book_add("EURUSD")
    mt5.inject(kind="terminal_restart", function="order_send", seconds=20, when=when)
    assert send() is None
    assert mt5.last_error()[0] == code
    for call in (mt5.account_info, mt5.positions_get, mt5.terminal_info):
        assert call() is None
        assert mt5.last_error()[0] == mt5.RES_E_INTERNAL_FAIL_CONNECT
    assert mt5.initialize() is False
    assert mt5.last_error() == (mt5.RES_E_INTERNAL_FAIL_TIMEOUT, "IPC timeout")
    market.advance(19)
    assert mt5.initialize() is False
    market.advance(1)
    assert mt5.initialize() is True
    assert mt5.positions_total() == executed
    assert mt5.market_book_get("EURUSD") is None, "the book was closed with the terminal"
    assert mt5.version()[1] == mt5.terminal_info().build == build + 1
    assert mt5.symbol_info_tick("EURUSD") is not None, "the market watch was kept"


def test_an_initialize_that_fails_leaves_no_connection(market: MarketControl) -> None:
    mt5.inject(kind="none", function="initialize", code=mt5.RES_E_INTERNAL_FAIL_INIT, times=1)
    assert mt5.initialize() is False
    assert mt5.last_error()[0] == mt5.RES_E_INTERNAL_FAIL_INIT
    assert mt5.account_info() is None
    assert mt5.initialize()


# Ticks.


def test_the_first_tick_is_zero(market: MarketControl) -> None:
    mt5.inject(kind="zero_tick", symbol="EURUSD")
    assert tuple(mt5.symbol_info_tick("EURUSD")) == (0, 0.0, 0.0, 0.0, 0, 0, 0, 0.0)
    assert mt5.symbol_info_tick("EURUSD").bid == 1.1
    mt5.inject(kind="zero_tick", function="symbol_info")
    info = mt5.symbol_info("EURUSD")
    assert (info.time, info.bid, info.ask, info.spread, info.digits) == (0, 0.0, 0.0, 0, 5)
    mt5.inject(kind="zero_tick", symbol="GBPUSD")
    assert mt5.symbol_info_tick("EURUSD").bid == 1.1
    assert mt5.symbol_select("GBPUSD")
    assert mt5.symbol_info_tick("GBPUSD").bid == 0.0, "the other symbol's call did not use it up"
    mt5.inject(kind="zero_tick")
    assert mt5.symbol_info_tick("NOPE") is None


def ticks_from(start: int, count: int = 1000) -> Any:
    return mt5.copy_ticks_from("GBPUSD", start, count, mt5.COPY_TICKS_ALL)


def test_some_ticks_come_twice_and_the_same_ones_again(market: MarketControl) -> None:
    market.advance(600)
    plain = ticks_from(0)
    mt5.inject(kind="duplicate_ticks", share=0.3)
    doubled = ticks_from(0)
    assert len(doubled) == 1000
    once = doubled[np.append(True, doubled[1:] != doubled[:-1])]
    assert 0.15 < 1 - len(once) / 1000 < 0.35
    assert np.array_equal(once, plain[: len(once)])
    start, end = int(plain["time"][300]), int(plain["time"][600])
    part = mt5.copy_ticks_range("GBPUSD", start, end, mt5.COPY_TICKS_ALL)
    inside = doubled[(doubled["time_msc"] >= start * 1000) & (doubled["time_msc"] <= part["time_msc"][-1])]
    assert np.array_equal(part, inside)
    mt5.clear_faults()
    mt5.inject(kind="duplicate_ticks", symbol="EURUSD")
    assert np.array_equal(ticks_from(0), plain)


def test_some_ticks_come_out_of_order_within_their_millisecond(market: MarketControl) -> None:
    market.advance(600)
    plain = ticks_from(0)
    mt5.inject(kind="shuffled_ticks", function="copy_ticks_from")
    shuffled = ticks_from(0)
    assert np.all(np.diff(shuffled["time_msc"]) >= 0)
    assert np.array_equal(shuffled["time"], plain["time"])
    moved = np.flatnonzero(shuffled["bid"] != plain["bid"])
    assert len(moved) > 50
    for place in np.flatnonzero(np.diff(shuffled["time_msc"]) == 0).tolist():
        assert shuffled["bid"][place] == plain["bid"][place + 1]
        assert shuffled["bid"][place + 1] == plain["bid"][place]
    for field in ("bid", "ask"):
        assert np.array_equal(np.sort(shuffled[field]), np.sort(plain[field]))
    again = ticks_from(int(plain["time"][400]), 300)
    assert np.array_equal(again, shuffled[shuffled["time"] >= plain["time"][400]][:300])
    assert len(ticks_from(0, 1)) == 1


def test_another_seed_touches_other_ticks(market: MarketControl) -> None:
    market.advance(600)
    mt5.inject(kind="duplicate_ticks")
    one = ticks_from(0)
    market.terminal.faults.seed = 5
    assert not np.array_equal(one, ticks_from(0))
