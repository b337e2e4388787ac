"""Each guard by itself, at its boundaries."""

from math import inf, nan
from typing import Any

import msgspec
import pytest
from support.facts import (
    NOW,
    READY,
    a_context,
    a_day,
    a_position,
    a_quote,
    a_signal,
    a_symbol,
    an_account,
    an_exposure,
    an_order,
    limits,
)

from mt5_bridge.core.decision import Approval, Denial, Requester
from mt5_bridge.core.guards.account import account
from mt5_bridge.core.guards.blocked import blocked
from mt5_bridge.core.guards.collar import collar
from mt5_bridge.core.guards.day import daily_loss, daily_trades, drawdown
from mt5_bridge.core.guards.drift import drift
from mt5_bridge.core.guards.halt import check_halt
from mt5_bridge.core.guards.margin import margin, margin_level
from mt5_bridge.core.guards.pending import pending
from mt5_bridge.core.guards.positions import positions
from mt5_bridge.core.guards.readiness import readiness
from mt5_bridge.core.guards.reducing import reduces_risk
from mt5_bridge.core.guards.risk import open_risk, risk
from mt5_bridge.core.guards.spread import spread
from mt5_bridge.core.guards.staleness import max_age_ms, staleness
from mt5_bridge.core.guards.stops import stop_required, stops
from mt5_bridge.core.guards.symbol import quoted, symbol
from mt5_bridge.core.guards.target import target
from mt5_bridge.core.guards.trading import trading_enabled
from mt5_bridge.core.guards.volume import size, volume
from mt5_bridge.core.halt import Halt, HaltState
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Action, AssetClass, Order, OrderType, Position, Side, TradeMode


def code(answer: object) -> Reason | None:
    return answer.code if isinstance(answer, Denial) else None


@pytest.mark.parametrize(
    ("requester", "action", "denied"),
    [
        (Requester.SIGNAL, Action.BUY, True),
        (Requester.SIGNAL, Action.CLOSE, True),
        (Requester.PERSON, Action.BUY, True),
        (Requester.PERSON, Action.CLOSE, False),
        (Requester.EMERGENCY, Action.CANCEL, False),
    ],
)
def test_without_trading_only_people_reduce(requester: Requester, action: Action, denied: bool) -> None:
    ctx = a_context(action, requester=requester, limits=limits(trading_enabled=False))
    assert code(trading_enabled(ctx)) is (Reason.TRADING_DISABLED if denied else None)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (None, None),
        (1001, None),
        ("1001", None),
        ("", None),
        (" 1001 ", None),
        (1002, Reason.ACCOUNT_MISMATCH),
        ("01001", Reason.ACCOUNT_MISMATCH),
    ],
)
def test_a_signal_for_another_account_is_not_ours(wanted: str | int | None, reason: Reason | None) -> None:
    assert code(account(a_context(signal={"account": wanted}))) is reason
    assert account(a_context(signal={"account": wanted}, requester=Requester.PERSON)) is None


@pytest.mark.parametrize(
    ("key", "wanted", "reason"),
    [
        ("1001", None, None),
        (None, None, Reason.ACCOUNT_MISMATCH),
        ("EURUSD", None, Reason.ACCOUNT_MISMATCH),
        ("EURUSD", 1001, None),
    ],
)
def test_where_an_account_is_required_the_key_may_name_it(
    key: str | None, wanted: int | None, reason: Reason | None
) -> None:
    ctx = a_context(signal={"account": wanted}, record_key=key, limits=limits(require_account=True))
    assert code(account(ctx)) is reason


def test_the_account_that_answers_must_be_the_configured_one() -> None:
    assert code(account(a_context(account=an_account(login=5)))) is Reason.ACCOUNT_MISMATCH
    assert account(a_context(account=None)) is None
    assert account(a_context(account=an_account(login=5), limits=limits(account=None))) is None
    assert code(account(a_context(account=None, limits=limits(account=None)))) is Reason.NOT_READY


def test_the_latch_names_who_and_why() -> None:
    halted = Halt(state=HaltState.HALTED)
    assert check_halt(a_signal(), Halt()) is None
    assert check_halt(a_signal(), halted) == Denial(code=Reason.HALTED, detail="trading is halted by a person")


@pytest.mark.parametrize(
    ("age", "ttl", "reason"),
    [
        (5000, None, None),
        (5001, None, Reason.STALE),
        (1000, 1000, None),
        (1001, 1000, Reason.STALE),
        (5001, 60_000, Reason.STALE),
        (0, 0, None),
        (1, 0, Reason.STALE),
        (-2000, None, None),
        (-2001, None, Reason.FROM_FUTURE),
    ],
)
def test_age(age: int, ttl: int | None, reason: Reason | None) -> None:
    ctx = a_context(created_msc=NOW - age, signal={"ttl_ms": ttl})
    assert code(staleness(ctx)) is reason
    assert staleness(msgspec.structs.replace(ctx, requester=Requester.EMERGENCY)) is None
    assert max_age_ms(ctx) == (5000 if ttl is None else min(ttl, 5000))


def test_readiness_says_what_is_missing() -> None:
    off = msgspec.structs.replace(READY, terminal_trade_allowed=False)
    assert readiness(a_context(readiness=off)) == Denial(
        code=Reason.NOT_READY, detail="AutoTrading is off in the terminal"
    )
    assert code(readiness(a_context(Action.CLOSE, readiness=off))) is Reason.NOT_READY
    assert readiness(a_context(Action.CLOSE, readiness=off, requester=Requester.EMERGENCY)) is None
    assert readiness(a_context()) is None


def test_without_a_journal_only_risk_is_refused() -> None:
    deaf = msgspec.structs.replace(READY, journal_healthy=False)
    assert code(readiness(a_context(readiness=deaf))) is Reason.JOURNAL_UNAVAILABLE
    assert readiness(a_context(Action.CLOSE, readiness=deaf)) is None


def test_openings_need_an_account_to_count_with() -> None:
    assert code(readiness(a_context(account=None))) is Reason.NOT_READY
    assert code(readiness(a_context(account=None, requester=Requester.EMERGENCY))) is Reason.NOT_READY
    assert readiness(a_context(Action.CLOSE, account=None)) is None


@pytest.mark.parametrize(
    ("mode", "action", "reason"),
    [
        (TradeMode.FULL, Action.BUY, None),
        (TradeMode.DISABLED, Action.BUY, Reason.MARKET_CLOSED),
        (TradeMode.CLOSE_ONLY, Action.SELL_LIMIT, Reason.SYMBOL_BLOCKED),
        (TradeMode.LONG_ONLY, Action.BUY, None),
        (TradeMode.LONG_ONLY, Action.SELL, Reason.SYMBOL_BLOCKED),
        (TradeMode.SHORT_ONLY, Action.BUY_STOP, Reason.SYMBOL_BLOCKED),
        (TradeMode.SHORT_ONLY, Action.SELL, None),
        (TradeMode.SHORT_ONLY, Action.MODIFY, None),
    ],
)
def test_the_brokers_trade_mode(mode: TradeMode, action: Action, reason: Reason | None) -> None:
    assert code(symbol(a_context(action, symbol=a_symbol(trade_mode=mode)))) is reason


def test_symbols_unknown_or_without_rules() -> None:
    assert code(symbol(a_context(symbol=None))) is Reason.UNKNOWN_SYMBOL
    assert code(symbol(a_context(symbol=a_symbol(point=0.0)))) is Reason.UNKNOWN_SYMBOL


@pytest.mark.parametrize(("mode", "reason"), [(127, None), (0, None), (1, Reason.UNSUPPORTED), (3, None)])
def test_order_types_the_symbol_takes(mode: int, reason: Reason | None) -> None:
    assert code(symbol(a_context(Action.BUY_LIMIT, symbol=a_symbol(order_mode=mode)))) is reason


@pytest.mark.parametrize(
    ("bid", "ask", "ok"),
    [
        (1.1, 1.2, True),
        (0.0, 1.2, False),
        (1.1, 0.0, False),
        (nan, 1.2, False),
        (1.1, nan, False),
        (1.1, inf, False),
        (inf, inf, False),
    ],
)
def test_a_quote_has_two_sides(bid: float, ask: float, ok: bool) -> None:
    assert (quoted(a_context(quote=a_quote(bid, ask))) is None) is ok


def test_an_unknown_outcome_blocks_its_symbol_only() -> None:
    unknown = (an_exposure(unknown=True), an_exposure(8))
    assert code(blocked(a_context(in_flight=unknown))) is Reason.UNKNOWN_OUTCOME
    assert blocked(a_context(in_flight=unknown, symbol=a_symbol("GBPUSD"))) is None
    assert blocked(a_context(in_flight=unknown[1:])) is None


def test_a_blocked_symbol_is_known_by_its_own_name_or_the_signals() -> None:
    assert code(blocked(a_context(blocked=frozenset({"EURUSD"})))) is Reason.SYMBOL_BLOCKED
    assert code(blocked(a_context(blocked=frozenset({"EURUSD"}), symbol=None))) is Reason.SYMBOL_BLOCKED
    assert blocked(a_context(blocked=frozenset({"EURUSD"}), symbol=a_symbol("EURUSD.m"))) is None


@pytest.mark.parametrize(
    ("action", "price", "limit", "level", "reason"),
    [
        (Action.BUY, None, None, 50, None),
        (Action.BUY_LIMIT, 1.1001, None, 0, None),
        (Action.BUY_LIMIT, 1.1002, None, 0, Reason.INVALID),
        (Action.BUY_LIMIT, 1.0996, None, 50, None),
        (Action.BUY_LIMIT, 1.09961, None, 50, Reason.STOPS_LEVEL),
        (Action.BUY_STOP, 1.1000, None, 0, Reason.INVALID),
        (Action.BUY_STOP, 1.1006, None, 50, None),
        (Action.BUY_STOP, 1.10059, None, 50, Reason.STOPS_LEVEL),
        (Action.SELL_LIMIT, 1.0999, None, 0, Reason.INVALID),
        (Action.SELL_LIMIT, 1.1005, None, 50, None),
        (Action.SELL_STOP, 1.1001, None, 0, Reason.INVALID),
        (Action.SELL_STOP, 1.0995, None, 50, None),
        (Action.SELL_STOP, 1.09951, None, 50, Reason.STOPS_LEVEL),
        (Action.BUY_STOP_LIMIT, 1.1010, 1.1005, 50, None),
        (Action.BUY_STOP_LIMIT, 1.1010, 1.1015, 0, Reason.INVALID),
        (Action.BUY_STOP_LIMIT, 1.1010, 1.10051, 50, Reason.STOPS_LEVEL),
        (Action.BUY_STOP_LIMIT, 1.1000, 1.0995, 0, Reason.INVALID),
        (Action.SELL_STOP_LIMIT, 1.0990, 1.0995, 50, None),
        (Action.SELL_STOP_LIMIT, 1.0990, 1.0985, 0, Reason.INVALID),
    ],
)
def test_pendings_stand_on_the_right_side(
    action: Action, price: float | None, limit: float | None, level: int, reason: Reason | None
) -> None:
    asked = {"price": price, "stop_limit_price": limit}
    assert code(pending(a_context(action, signal=asked, symbol=a_symbol(stops_level=level)))) is reason


@pytest.mark.parametrize(
    ("expiration", "reason"),
    [(None, None), (0, None), (NOW + 1, None), (NOW, Reason.EXPIRED), ("2020-01-01T00:00:00Z", Reason.EXPIRED)],
)
def test_pendings_must_not_have_expired(expiration: str | int | None, reason: Reason | None) -> None:
    asked = {"price": 1.0996, "expiration": expiration}
    assert code(pending(a_context(Action.BUY_LIMIT, signal=asked))) is reason


def test_a_modified_pending_is_judged_with_what_it_keeps() -> None:
    def ask(**asked: Any) -> Reason | None:
        order = an_order(
            type=OrderType.BUY_STOP_LIMIT, price=1.1010, stop_limit_price=1.1005, stop_loss=1.0900, take_profit=1.2
        )
        ctx = a_context(Action.MODIFY, signal=asked, target=order)
        return code(pending(ctx) or stops(ctx))

    assert ask(price=1.1020) is None
    assert ask(price=1.1004) is Reason.INVALID
    assert ask(stop_loss=1.1006) is Reason.INVALID_STOPS
    assert ask(take_profit=1.1004) is Reason.INVALID_STOPS


def test_an_order_that_is_being_filled_has_no_pending_price_to_judge() -> None:
    assert pending(a_context(Action.MODIFY, target=an_order(type=OrderType.BUY))) is None


@pytest.mark.parametrize(
    ("required", "volume_given", "stop", "reason"),
    [
        (True, True, 1.0991, None),
        (True, True, None, Reason.NO_STOP_LOSS),
        (True, True, 0.0, Reason.NO_STOP_LOSS),
        (False, True, None, None),
        (False, False, None, Reason.NO_STOP_LOSS),
        (False, False, 1.0991, None),
    ],
)
def test_when_a_stop_is_needed(required: bool, volume_given: bool, stop: float | None, reason: Reason | None) -> None:
    asked = {"stop_loss": stop, "volume": 0.1 if volume_given else None}
    assert code(stop_required(a_context(signal=asked, limits=limits(require_stop_loss=required)))) is reason


@pytest.mark.parametrize(
    ("action", "asked", "level", "reason"),
    [
        (Action.BUY, {"stop_loss": 1.0999}, 0, None),
        (Action.BUY, {"stop_loss": 1.1000}, 0, Reason.INVALID_STOPS),
        (Action.BUY, {"stop_loss": 1.0995}, 50, None),
        (Action.BUY, {"stop_loss": 1.09951}, 50, Reason.STOPS_LEVEL),
        (Action.BUY, {"take_profit": 1.1005}, 50, None),
        (Action.BUY, {"take_profit": 1.10049}, 50, Reason.STOPS_LEVEL),
        (Action.BUY, {"take_profit": 1.0999}, 0, Reason.INVALID_STOPS),
        (Action.SELL, {"stop_loss": 1.1006}, 50, None),
        (Action.SELL, {"stop_loss": 1.1001}, 0, Reason.INVALID_STOPS),
        (Action.SELL, {"take_profit": 1.0996}, 50, None),
        (Action.SELL, {"take_profit": 1.1002}, 0, Reason.INVALID_STOPS),
        (Action.BUY_LIMIT, {"price": 1.0900, "stop_loss": 1.0895}, 50, None),
        (Action.BUY_LIMIT, {"price": 1.0900, "stop_loss": 1.0900}, 0, Reason.INVALID_STOPS),
        (Action.SELL_STOP, {"price": 1.0900, "stop_loss": 1.0904}, 50, Reason.STOPS_LEVEL),
        (Action.BUY_LIMIT, {"price": 1.0900, "stop_loss": None}, 50, None),
    ],
)
def test_stops_and_targets_keep_their_side_and_distance(
    action: Action, asked: dict[str, Any], level: int, reason: Reason | None
) -> None:
    assert code(stops(a_context(action, signal=asked, symbol=a_symbol(stops_level=level)))) is reason


@pytest.mark.parametrize(("limit", "reason"), [(None, None), (10, None), (9.9, Reason.SPREAD)])
def test_spread_in_points(limit: float | None, reason: Reason | None) -> None:
    assert code(spread(a_context(limits=limits(max_spread_points=limit)))) is reason


@pytest.mark.parametrize(
    ("action", "price", "limit", "reason"),
    [
        (Action.BUY, 1.1011, 100, None),
        (Action.BUY, 1.10111, 100, Reason.DRIFT),
        (Action.BUY, 1.0991, 100, None),
        (Action.SELL, 1.0989, 100, Reason.DRIFT),
        (Action.SELL, 1.0989, None, None),
        (Action.BUY, None, 100, None),
        (Action.BUY, 0.0, 100, None),
        (Action.BUY_LIMIT, 1.0500, 100, None),
    ],
)
def test_drift_of_market_orders(
    action: Action, price: float | None, limit: float | None, reason: Reason | None
) -> None:
    assert code(drift(a_context(action, signal={"price": price}, limits=limits(max_drift_points=limit)))) is reason


@pytest.mark.parametrize(
    ("action", "asked", "reason"),
    [
        (Action.BUY, {}, None),
        (Action.BUY, {"price": 1.0}, Reason.PRICE_COLLAR),
        (Action.BUY_LIMIT, {"price": 1.0}, Reason.PRICE_COLLAR),
        (Action.BUY_LIMIT, {"price": 1.08}, None),
        (Action.BUY_STOP_LIMIT, {"price": 1.11, "stop_limit_price": 1.0}, Reason.PRICE_COLLAR),
        (Action.BUY_STOP_LIMIT, {"price": 1.11, "stop_limit_price": 1.10}, None),
        (Action.SELL_LIMIT, {"price": 1.122}, None),
    ],
)
def test_the_collar(action: Action, asked: dict[str, Any], reason: Reason | None) -> None:
    assert code(collar(a_context(action, signal=asked, limits=limits(price_collar_pct=2.0)))) is reason
    assert collar(a_context(action, signal=asked)) is None


def test_daily_trades_count_what_is_in_flight_and_what_was_placed_today() -> None:
    def ask(**facts: Any) -> Reason | None:
        return code(daily_trades(a_context(limits=limits(max_daily_trades=3), **facts)))

    today, yesterday = an_order(11, time_setup_msc=NOW - 1), an_order(12, time_setup_msc=NOW - 90_000_000)
    assert ask(day=a_day(trades=2)) is None
    assert ask(day=a_day(trades=3)) is Reason.DAILY_TRADES
    assert ask(day=a_day(trades=1), in_flight=(an_exposure(),)) is None
    assert ask(day=a_day(trades=1), in_flight=(an_exposure(), an_exposure(8))) is Reason.DAILY_TRADES
    assert ask(day=a_day(trades=2), orders=(today,)) is Reason.DAILY_TRADES
    assert ask(day=a_day(trades=2), orders=(yesterday,)) is None
    assert ask(day=None) is Reason.NOT_READY
    assert daily_trades(a_context(day=None, limits=limits(max_daily_trades=None))) is None


def test_losses_of_the_day_and_from_the_peak() -> None:
    lost = a_context(account=an_account(equity=9_500.0), limits=limits(max_drawdown_pct=5.0))
    assert code(daily_loss(lost)) is Reason.DAILY_LOSS
    assert code(drawdown(lost)) is Reason.DRAWDOWN
    for change in ({"day": None}, {"account": None}):
        blind = msgspec.structs.replace(lost, **change)
        assert code(daily_loss(blind)) is code(drawdown(blind)) is Reason.NOT_READY
    off = msgspec.structs.replace(lost, limits=limits(max_daily_loss_pct=None))
    assert daily_loss(off) is drawdown(off) is None


def test_positions_in_all_by_symbol_and_by_class() -> None:
    held: dict[str, Any] = {
        "positions": (a_position(1), a_position(2, symbol="XAUUSD")),
        "orders": (an_order(11, symbol="GBPUSD"),),
        "in_flight": (an_exposure(symbol="EURUSD"),),
    }

    def ask(name: str = "EURUSD", classes: dict[str, AssetClass] | None = None, **changes: Any) -> Reason | None:
        ctx = a_context(symbol=a_symbol(name), limits=limits(**changes), classes=classes or {}, **held)
        return code(positions(ctx))

    assert ask() is None
    assert ask(max_simultaneous_trades=5) is None
    assert ask(max_simultaneous_trades=4) is Reason.POSITIONS
    assert ask(max_positions_per_symbol=3) is None
    assert ask(max_positions_per_symbol=2) is Reason.POSITIONS
    assert ask("USDJPY", max_positions_per_symbol=1) is None
    forex = {AssetClass.FOREX: 3}
    assert ask(max_positions_by_class=forex) is Reason.POSITIONS
    assert ask(max_positions_by_class={AssetClass.FOREX: 4}) is None
    assert ask("US500", max_positions_by_class=forex) is None
    assert ask(max_positions_by_class=forex, classes={"GBPUSD": AssetClass.OTHER}) is None


@pytest.mark.parametrize(
    ("asked", "facts", "answer"),
    [
        ({"volume": 0.1}, {}, Approval(volume=0.1, risk=100.0, margin=110.0)),
        ({"volume": 0.119}, {}, Approval(volume=0.11, risk=110.0, margin=121.0)),
        ({"volume": None}, {}, Approval(volume=0.2, risk=200.0, margin=220.0)),
        ({"volume": None, "risk_percent": 0.5}, {}, Approval(volume=0.05, risk=50.0, margin=55.0)),
        ({"volume": None, "risk_percent": 2.0}, {"loss_per_lot": None}, 2.0),
        ({"volume": 0.1, "risk_percent": 2.01}, {}, Reason.RISK),
        ({"volume": 0.1, "risk_percent": 9.0}, {"limits": limits(max_risk_percent=None)}, 0.1),
        ({"volume": None}, {"limits": limits(max_risk_percent=None)}, Reason.INVALID),
        ({"volume": None}, {"limits": limits(max_volume=0.07)}, 0.07),
        ({"volume": None}, {"symbol": a_symbol(volume_max=0.05)}, 0.05),
        ({"volume": None}, {"symbol": a_symbol(volume_max=0.0), "limits": limits(max_volume=None)}, 0.2),
        ({"volume": None}, {"account": an_account(equity=-5.0)}, 0.0),
        ({"volume": 0.1}, {"loss_per_lot": None, "symbol": a_symbol(tick_value=0.0)}, Reason.RISK),
        ({"volume": 0.1, "stop_loss": None}, {"limits": limits(require_stop_loss=False)}, 0.1),
    ],
)
def test_sizing(asked: dict[str, Any], facts: dict[str, Any], answer: Approval | Reason | float) -> None:
    found = size(a_context(signal=asked, **facts))
    if isinstance(answer, Reason):
        assert code(found) is answer
    elif isinstance(answer, Approval):
        assert isinstance(found, Approval)
        assert found.volume == answer.volume
        assert (found.risk, found.margin) == pytest.approx((answer.risk, answer.margin))
    else:
        assert isinstance(found, Approval)
        assert found.volume == answer


@pytest.mark.parametrize(
    ("asked", "proposed", "facts", "reason"),
    [
        (0.1, 0.1, {}, None),
        (0.01, 0.01, {}, None),
        (0.009, 0.0, {}, Reason.BELOW_MIN_VOLUME),
        (None, 0.0, {}, Reason.BELOW_MIN_VOLUME),
        (0.05, 0.0, {"symbol": a_symbol(volume_min=0.0)}, Reason.BELOW_MIN_VOLUME),
        (0.05, 0.05, {"symbol": a_symbol(volume_min=0.1)}, Reason.BELOW_MIN_VOLUME),
        (10.0, 10.0, {}, None),
        (10.001, 10.0, {}, Reason.MAX_VOLUME),
        (10.001, 10.0, {"limits": limits(max_volume=None)}, None),
        (0.6, 0.6, {"symbol": a_symbol(volume_max=0.5)}, Reason.MAX_VOLUME),
        (0.3, 0.3, {"symbol": a_symbol(volume_limit=1.0)}, Reason.MAX_VOLUME),
        (0.2, 0.2, {"symbol": a_symbol(volume_limit=1.0)}, None),
        (0.2, 0.2, {"symbol": a_symbol(volume_limit=0.5)}, Reason.MAX_VOLUME),
    ],
)
def test_volume_limits(asked: float | None, proposed: float, facts: dict[str, Any], reason: Reason | None) -> None:
    held: dict[str, Any] = {
        "positions": (a_position(1), a_position(2, Side.SELL), a_position(3, symbol="GBPUSD")),
        "orders": (an_order(11), an_order(12, OrderType.SELL_LIMIT)),
        "in_flight": (an_exposure(), an_exposure(8, side=Side.SELL)),
    }
    ctx = a_context(signal={"volume": asked}, **held, **facts)
    assert code(volume(ctx, Approval(volume=proposed, risk=1.0))) is reason


@pytest.mark.parametrize(
    ("money", "facts", "reason"),
    [
        (200.0, {}, None),
        (200.00000001, {}, None),
        (200.01, {}, Reason.RISK),
        (9999.0, {"limits": limits(max_risk_percent=None)}, None),
        (1.0, {"account": an_account(equity=0.0)}, Reason.RISK),
        (0.0, {"account": an_account(equity=0.0)}, None),
        (0.0, {"signal": {"stop_loss": None}}, None),
    ],
)
def test_risk_of_one_order(money: float, facts: dict[str, Any], reason: Reason | None) -> None:
    assert code(risk(a_context(**facts), Approval(volume=0.1, risk=money))) is reason


def test_risk_of_all_that_is_open() -> None:
    def ask(money: float, risks: dict[int, float | None], **facts: Any) -> Reason | None:
        ctx = a_context(
            limits=limits(max_open_risk_pct=5.0),
            positions=(a_position(1),),
            orders=(an_order(11),),
            in_flight=(an_exposure(risk=50.0),),
            risk_by_position=risks,
            **facts,
        )
        return code(open_risk(ctx, Approval(volume=0.1, risk=money)))

    assert ask(150.0, {1: 200.0, 11: 100.0}) is None
    assert ask(150.1, {1: 200.0, 11: 100.0}) is Reason.OPEN_RISK
    assert ask(1.0, {1: None, 11: 100.0}) is Reason.OPEN_RISK
    assert ask(1.0, {1: 100.0}) is Reason.OPEN_RISK
    assert ask(0.0, {1: 0.0, 11: 0.0}, signal={"stop_loss": None}) is Reason.OPEN_RISK
    assert open_risk(a_context(), Approval(volume=9.0, risk=9e9)) is None


def test_the_risk_of_what_is_being_changed_counts_once() -> None:
    ctx = a_context(
        Action.MODIFY,
        signal={"stop_loss": 1.0890},
        target=a_position(1),
        positions=(a_position(1), a_position(2)),
        risk_by_position={1: None, 2: 100.0},
        limits=limits(max_open_risk_pct=5.0),
    )
    assert open_risk(ctx, Approval(volume=0.5, risk=400.0)) is None
    assert code(open_risk(ctx, Approval(volume=0.5, risk=401.0))) is Reason.OPEN_RISK


def test_margin_beside_what_is_in_flight() -> None:
    ctx = a_context(account=an_account(free_margin=210.0), in_flight=(an_exposure(margin=100.0),))
    assert margin(ctx, Approval(volume=0.1, risk=1.0, margin=110.0)) is None
    assert code(margin(ctx, Approval(volume=0.1, risk=1.0, margin=110.1))) is Reason.MARGIN
    unknown = msgspec.structs.replace(ctx, margin_per_lot=None)
    assert code(margin(unknown, Approval(volume=0.1, risk=1.0))) is Reason.MARGIN


def test_margin_level_after_the_order() -> None:
    def ask(needed: float, limit: float | None = 200.0, held: float = 4_800.0) -> Reason | None:
        ctx = a_context(
            account=an_account(margin=held),
            in_flight=(an_exposure(margin=held and 100.0),),
            limits=limits(min_margin_level_pct=limit),
        )
        return code(margin_level(ctx, Approval(volume=0.1, risk=1.0, margin=needed)))

    assert ask(100.0) is None
    assert ask(101.0) is Reason.MARGIN_LEVEL
    assert ask(9_999.0, None) is None
    assert ask(0.0, held=0.0) is None


@pytest.mark.parametrize(
    ("action", "asked", "facts", "reason"),
    [
        (Action.CLOSE, {}, {"target": a_position()}, None),
        (Action.CLOSE, {}, {}, Reason.NOT_FOUND),
        (Action.CLOSE, {}, {"target": an_order()}, Reason.INVALID),
        (Action.CLOSE, {}, {"target": a_position(), "symbol": None}, None),
        (Action.CLOSE, {}, {"target": a_position(), "symbol": a_symbol("GBPUSD")}, Reason.INVALID),
        (Action.CANCEL, {}, {"target": an_order()}, None),
        (Action.CANCEL, {}, {"target": a_position()}, Reason.INVALID),
        (Action.CLOSE_BY, {}, {"target": a_position()}, Reason.NOT_FOUND),
        (Action.CLOSE_BY, {}, {"target": a_position(), "target_by": a_position(2)}, Reason.INVALID),
        (Action.CLOSE_BY, {}, {"target": a_position(), "target_by": a_position(2, Side.SELL)}, None),
        (
            Action.CLOSE_BY,
            {},
            {"target": a_position(), "target_by": a_position(2, Side.SELL, symbol="GBPUSD")},
            Reason.INVALID,
        ),
        (Action.MODIFY, {}, {"target": a_position()}, Reason.INVALID),
        (Action.MODIFY, {"price": 1.2}, {"target": a_position()}, Reason.INVALID),
        (Action.MODIFY, {"price": 1.2}, {"target": an_order()}, None),
        (Action.MODIFY, {"expiration": 0}, {"target": an_order()}, None),
        (Action.MODIFY, {"take_profit": 0.0}, {"target": a_position()}, None),
    ],
)
def test_targets(action: Action, asked: dict[str, Any], facts: dict[str, Any], reason: Reason | None) -> None:
    assert code(target(a_context(action, signal=asked, **facts))) is reason


BOUGHT, SOLD = a_position(), a_position(side=Side.SELL)
BARE = a_position(stop_loss=0.0)


@pytest.mark.parametrize(
    ("asked", "held", "reduces"),
    [
        ({"stop_loss": 1.0901}, BOUGHT, True),
        ({"stop_loss": 1.0899}, BOUGHT, False),
        ({"stop_loss": 1.0900}, BOUGHT, True),
        ({"stop_loss": 0.0}, BOUGHT, False),
        ({"stop_loss": 1.1099}, SOLD, True),
        ({"stop_loss": 1.1101}, SOLD, False),
        ({"stop_loss": 0.0}, SOLD, False),
        ({"stop_loss": 0.0}, an_order(type=OrderType.SELL_STOP), False),
        ({"stop_loss": 1.0000}, BARE, True),
        ({"stop_loss": 0.0}, BARE, True),
        ({"take_profit": 1.2}, BOUGHT, True),
        ({"stop_loss": 1.0899, "take_profit": 1.2}, BOUGHT, False),
        ({"stop_loss": 1.0860}, an_order(), True),
        ({"stop_loss": 1.0860}, an_order(type=OrderType.SELL_STOP, stop_loss=1.0850), False),
        ({"stop_loss": 1.0860, "price": 1.0870}, an_order(), False),
        ({"take_profit": 1.2, "stop_limit_price": 1.0}, an_order(), False),
        ({"take_profit": 1.2, "expiration": 0}, an_order(), False),
        ({"take_profit": 1.2, "expiration": 0}, BOUGHT, True),
        ({"take_profit": 1.2}, None, False),
    ],
)
def test_which_changes_reduce_risk(asked: dict[str, Any], held: Position | Order | None, reduces: bool) -> None:
    assert reduces_risk(a_signal(Action.MODIFY, **asked), held) is reduces


@pytest.mark.parametrize("action", Action)
def test_which_actions_reduce_risk_by_themselves(action: Action) -> None:
    assert reduces_risk(a_signal(action), None) is (action in (Action.CLOSE, Action.CLOSE_BY, Action.CANCEL))
