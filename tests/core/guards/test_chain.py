"""The chain as a whole: what passes, in which order rules answer, and what no setting can do."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.facts import (
    LIMITS,
    NOW,
    READY,
    a_context,
    a_day,
    a_position,
    a_symbol,
    an_account,
    an_exposure,
    an_order,
    limits,
)

from mt5_bridge.core.decision import Approval, Context, Denial, Readiness, Requester
from mt5_bridge.core.guards import chain, check_halt, evaluate, reduces_risk
from mt5_bridge.core.guards.halt import halt
from mt5_bridge.core.halt import Halt, HaltState
from mt5_bridge.core.messages import Reason, TradingSignal
from mt5_bridge.core.model import Action, OrderType, Side

HALTED = Halt(state=HaltState.HALTED, reason="news", by="ann")
REDUCING = Halt(state=HaltState.REDUCING, by="daily_loss")
OPENINGS = [action for action in Action if action.opens]
PRICES: dict[Action, dict[str, float]] = {
    Action.BUY: {},
    Action.SELL: {},
    Action.BUY_LIMIT: {"price": 1.0995},
    Action.SELL_LIMIT: {"price": 1.1005},
    Action.BUY_STOP: {"price": 1.1005},
    Action.SELL_STOP: {"price": 1.0995},
    Action.BUY_STOP_LIMIT: {"price": 1.1005, "stop_limit_price": 1.1003},
    Action.SELL_STOP_LIMIT: {"price": 1.0995, "stop_limit_price": 1.0997},
}


def code(answer: Approval | Denial) -> Reason | None:
    return answer.code if isinstance(answer, Denial) else None


@pytest.mark.parametrize("action", OPENINGS)
def test_an_opening_that_meets_every_rule_is_approved(action: Action) -> None:
    assert evaluate(a_context(action, signal=PRICES[action])) == Approval(volume=0.1, risk=100.0, margin=110.0)


@pytest.mark.parametrize("action", OPENINGS)
@pytest.mark.parametrize(("state", "reason"), [(HALTED, Reason.HALTED), (REDUCING, Reason.REDUCING)])
def test_nothing_opens_after_the_latch(action: Action, state: Halt, reason: Reason) -> None:
    for requester in Requester:
        assert code(evaluate(a_context(action, signal=PRICES[action], halt=state, requester=requester))) is reason


def test_the_halt_guard_is_the_last_of_every_way_through_the_chain() -> None:
    assert chain.LAST_GUARDS[-1] is halt
    assert chain.EXIT_GUARDS[-1] is halt
    assert all(halt in guards for guards in (chain.OPENING_GUARDS, chain.MODIFY_GUARDS, chain.EXIT_GUARDS))


def test_a_halted_bridge_says_so_before_any_limit() -> None:
    ctx = a_context(halt=HALTED, readiness=Readiness(), day=None, symbol=None)
    assert evaluate(ctx) == Denial(code=Reason.HALTED, detail="trading is halted by ann: news")


def test_the_rate_stands_behind_every_other_rule_but_the_halt() -> None:
    waiting = a_context(throttle_wait_ms=120)
    assert evaluate(waiting) == Denial(
        code=Reason.THROTTLED, detail="over MAX_ORDERS_PER_SECOND, room in 120 ms", limit=5.0, value=120
    )
    assert code(evaluate(a_context(throttle_wait_ms=120, margin_per_lot=None))) is Reason.MARGIN


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"limits": limits(trading_enabled=False)}, Reason.TRADING_DISABLED),
        ({"account": an_account(login=2)}, Reason.ACCOUNT_MISMATCH),
        ({"halt": HALTED}, Reason.HALTED),
        ({"created_msc": NOW - 5001}, Reason.STALE),
        ({"readiness": Readiness()}, Reason.NOT_READY),
        ({"symbol": None}, Reason.UNKNOWN_SYMBOL),
        ({"blocked": frozenset({"EURUSD"})}, Reason.SYMBOL_BLOCKED),
        ({"quote": None}, Reason.NO_QUOTE),
        ({"signal": {"stop_loss": None}}, Reason.NO_STOP_LOSS),
        ({"signal": {"stop_loss": 1.2}}, Reason.INVALID_STOPS),
        ({"limits": limits(max_spread_points=9)}, Reason.SPREAD),
        ({"limits": limits(max_drift_points=5), "signal": {"price": 1.2}}, Reason.DRIFT),
        ({"limits": limits(price_collar_pct=1), "signal": {"price": 1.2}}, Reason.PRICE_COLLAR),
        ({"day": a_day(start_equity=11_000.0)}, Reason.DAILY_LOSS),
        ({"limits": limits(max_drawdown_pct=5), "day": a_day(peak_equity=11_000.0)}, Reason.DRAWDOWN),
        ({"day": a_day(trades=10)}, Reason.DAILY_TRADES),
        ({"limits": limits(max_simultaneous_trades=0)}, Reason.POSITIONS),
        ({"signal": {"risk_percent": 2.1}}, Reason.RISK),
        ({"signal": {"volume": 0.001}}, Reason.BELOW_MIN_VOLUME),
        ({"signal": {"volume": 11.0}}, Reason.MAX_VOLUME),
        ({"signal": {"volume": 0.3}}, Reason.RISK),
        ({"limits": limits(max_open_risk_pct=0.5)}, Reason.OPEN_RISK),
        ({"margin_per_lot": None}, Reason.MARGIN),
        ({"limits": limits(min_margin_level_pct=10_000)}, Reason.MARGIN_LEVEL),
        ({"throttle_wait_ms": 1}, Reason.THROTTLED),
    ],
)
def test_rules_answer_in_the_order_of_the_chain(changes: dict[str, Any], reason: Reason) -> None:
    assert code(evaluate(a_context(**changes))) is reason


EXITS = [
    (Action.CLOSE, {}, {"target": a_position()}),
    (Action.CLOSE_BY, {"position": 1, "order": 2}, {"target": a_position(), "target_by": a_position(2, Side.SELL)}),
    (Action.CANCEL, {"order": 11}, {"target": an_order()}),
    (Action.MODIFY, {"position": 1, "stop_loss": 1.0950}, {"target": a_position()}),
    (Action.MODIFY, {"position": 1, "take_profit": 1.2}, {"target": a_position()}),
    (Action.MODIFY, {"order": 11, "stop_loss": 1.0860}, {"target": an_order()}),
]
FULL = {
    "limits": limits(max_simultaneous_trades=0, max_daily_trades=0, max_spread_points=0, max_open_risk_pct=0.0001),
    "day": None,
    "quote": None,
    "in_flight": (an_exposure(unknown=True),),
    "blocked": frozenset({"EURUSD"}),
    "throttle_wait_ms": 900,
    "readiness": READY,
    "margin_per_lot": None,
}


@pytest.mark.parametrize("field", ["trailing_stop_points", "break_even_points"])
def test_managed_stops_come_with_an_opening_or_a_positions_modify(field: str) -> None:
    assert isinstance(evaluate(a_context(signal={field: 50})), Approval)
    for change in ({"stop_loss": 1.0950}, {}):
        asked = {"position": 1, field: 50, **change}
        assert isinstance(evaluate(a_context(Action.MODIFY, signal=asked, target=a_position())), Approval)
    assert code(evaluate(a_context(Action.MODIFY, signal={"position": 1}, target=a_position()))) is Reason.INVALID


@pytest.mark.parametrize("points", [0, 50])
@pytest.mark.parametrize("field", ["trailing_stop_points", "break_even_points"])
def test_what_is_not_done_is_not_ignored(field: str, points: int) -> None:
    """A pending's managed stop comes with it, or not at all."""
    asked = {"order": 11, "stop_loss": 1.0860, field: points}
    assert code(evaluate(a_context(Action.MODIFY, signal=asked, target=an_order()))) is Reason.UNSUPPORTED
    closed = a_context(Action.CLOSE, signal={field: points}, target=a_position())
    assert isinstance(evaluate(closed), Approval)


@pytest.mark.parametrize(("action", "asked", "facts"), EXITS)
def test_what_reduces_risk_meets_no_limit(action: Action, asked: dict[str, Any], facts: dict[str, Any]) -> None:
    assert isinstance(evaluate(a_context(action, signal=asked, **facts, **FULL)), Approval)


@pytest.mark.parametrize(("action", "asked", "facts"), EXITS)
def test_what_reduces_risk_passes_while_reducing(action: Action, asked: dict[str, Any], facts: dict[str, Any]) -> None:
    assert isinstance(evaluate(a_context(action, signal=asked, **facts, halt=REDUCING)), Approval)


@pytest.mark.parametrize(("action", "asked", "facts"), EXITS)
def test_while_halted_only_a_person_and_the_stop_itself_reduce(
    action: Action, asked: dict[str, Any], facts: dict[str, Any]
) -> None:
    def ask(requester: Requester) -> Approval | Denial:
        return evaluate(a_context(action, signal=asked, **facts, halt=HALTED, requester=requester))

    assert code(ask(Requester.SIGNAL)) is Reason.HALTED
    assert isinstance(ask(Requester.PERSON), Approval)
    assert isinstance(ask(Requester.EMERGENCY), Approval)


@pytest.mark.parametrize(("action", "asked", "facts"), EXITS)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"limits": limits(trading_enabled=False)}, Reason.TRADING_DISABLED),
        ({"account": an_account(login=2)}, Reason.ACCOUNT_MISMATCH),
        ({"created_msc": NOW - 5001}, Reason.STALE),
        ({"created_msc": NOW + 2001}, Reason.FROM_FUTURE),
        ({"readiness": Readiness()}, Reason.NOT_READY),
        ({"symbol": a_symbol("GBPUSD")}, Reason.INVALID),
    ],
)
def test_what_reduces_risk_meets_these_rules_all_the_same(
    action: Action, asked: dict[str, Any], facts: dict[str, Any], changes: dict[str, Any], reason: Reason
) -> None:
    assert code(evaluate(a_context(action, signal=asked, **facts, **changes))) is reason


@pytest.mark.parametrize(
    ("held", "asked", "leg", "volume"),
    [
        (0.5, None, None, 0.5),
        (0.5, 0.2, None, 0.2),
        (0.5, 0.8, None, 0.5),
        (0.5, 0.8, 0.3, 0.3),
        (0.5, None, 0.7, 0.5),
    ],
)
def test_a_close_never_closes_more_than_is_held(
    held: float, asked: float | None, leg: float | None, volume: float
) -> None:
    ctx = a_context(Action.CLOSE, signal={"volume": asked}, target=a_position(volume=held), volume=leg)
    assert evaluate(ctx) == Approval(volume=volume, risk=0.0)


def test_the_volumes_of_the_other_exits() -> None:
    both: dict[str, Any] = {"target": a_position(), "target_by": a_position(2, Side.SELL, volume=0.3)}
    assert evaluate(a_context(Action.CLOSE_BY, **both)) == Approval(volume=0.3, risk=0.0)
    assert evaluate(a_context(Action.CANCEL, target=an_order())) == Approval(volume=0.0, risk=0.0)
    tightened = a_context(Action.MODIFY, signal={"stop_loss": 1.0860}, target=an_order())
    assert evaluate(tightened) == Approval(volume=0.2, risk=0.0)


LOOSER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"stop_loss": 1.0890}, {"target": a_position(volume=0.1)}),
    ({"stop_loss": 1.0840}, {"target": an_order()}),
    ({"price": 1.0910}, {"target": an_order()}),
    ({"expiration": NOW + 1000}, {"target": an_order()}),
]


@pytest.mark.parametrize(("asked", "facts"), LOOSER)
def test_a_modify_that_raises_risk_is_judged_like_an_opening(asked: dict[str, Any], facts: dict[str, Any]) -> None:
    def ask(**changes: Any) -> Approval | Denial:
        return evaluate(a_context(Action.MODIFY, signal=asked, **facts, **changes))

    assert isinstance(ask(), Approval)
    for state, requester in itertools.product((HALTED, REDUCING), Requester):
        assert isinstance(ask(halt=state, requester=requester), Denial)
    assert code(ask(day=a_day(start_equity=11_000.0))) is Reason.DAILY_LOSS
    assert code(ask(limits=limits(max_risk_percent=0.01))) is Reason.RISK
    assert code(ask(limits=limits(max_open_risk_pct=0.01))) is Reason.OPEN_RISK
    assert code(ask(throttle_wait_ms=5)) is Reason.THROTTLED
    assert code(ask(readiness=Readiness())) is Reason.NOT_READY
    assert code(ask(limits=limits(max_simultaneous_trades=0))) is None


def test_the_risk_of_a_modify_is_that_of_its_target_after_the_change() -> None:
    wider = a_context(Action.MODIFY, signal={"stop_loss": 1.0890}, target=a_position())
    assert code(evaluate(wider)) is Reason.RISK  # 0.5 lots, 600 points from the open price: 300
    smaller = a_context(Action.MODIFY, signal={"stop_loss": 1.0890}, target=a_position(volume=0.1), loss_per_lot=650.0)
    assert evaluate(smaller) == Approval(volume=0.1, risk=65.0)
    in_profit = a_context(
        Action.MODIFY, signal={"stop_loss": 1.0960}, target=a_position(stop_loss=1.0970, volume=5.0), symbol=a_symbol()
    )
    assert evaluate(in_profit) == Approval(volume=5.0, risk=0.0)


def test_taking_a_stop_away_needs_the_settings_leave() -> None:
    asked = {"position": 1, "stop_loss": 0.0}
    assert code(evaluate(a_context(Action.MODIFY, signal=asked, target=a_position()))) is Reason.NO_STOP_LOSS
    free = limits(require_stop_loss=False)
    ctx = a_context(Action.MODIFY, signal=asked, target=a_position(), limits=free)
    assert evaluate(ctx) == Approval(volume=0.5, risk=0.0)


def test_a_modify_without_a_risk_figure_is_denied() -> None:
    ctx = a_context(Action.MODIFY, signal={"stop_loss": 1.0890}, target=a_position(), symbol=a_symbol(tick_value=0.0))
    assert code(evaluate(ctx)) is Reason.RISK


prices = st.one_of(st.none(), st.floats(min_value=0.0, max_value=2.0))
contexts = st.builds(
    Context,
    signal=st.builds(
        TradingSignal,
        symbol=st.just("EURUSD"),
        action=st.sampled_from(Action),
        volume=st.one_of(st.none(), st.floats(min_value=1e-9, max_value=1e6)),
        risk_percent=st.one_of(st.none(), st.floats(min_value=0.0, max_value=200.0)),
        price=prices,
        stop_limit_price=prices,
        stop_loss=prices,
        take_profit=prices,
        position=st.one_of(st.none(), st.just(1)),
        order=st.one_of(st.none(), st.just(11)),
        ttl_ms=st.one_of(st.none(), st.integers(0, 10_000)),
    ),
    now_msc=st.just(NOW),
    created_msc=st.integers(NOW - 10_000, NOW + 4_000),
    limits=st.sampled_from(
        [
            LIMITS,
            limits(require_stop_loss=False),
            limits(
                max_drawdown_pct=10,
                max_open_risk_pct=5,
                min_margin_level_pct=200,
                price_collar_pct=5,
                max_positions_per_symbol=3,
            ),
        ]
    ),
    halt=st.sampled_from([Halt(), HALTED, REDUCING]),
    readiness=st.sampled_from([READY, Readiness()]),
    account=st.sampled_from([None, an_account(), an_account(equity=0.0, free_margin=-5.0)]),
    symbol=st.sampled_from([None, a_symbol(), a_symbol(stops_level=20, volume_limit=1.0, tick_value=0.0)]),
    quote=st.sampled_from([None, a_context().quote]),
    positions=st.sampled_from([(), (a_position(),)]),
    orders=st.sampled_from([(), (an_order(),)]),
    in_flight=st.sampled_from([(), (an_exposure(),), (an_exposure(unknown=True),)]),
    day=st.sampled_from([None, a_day()]),
    loss_per_lot=st.one_of(st.none(), st.floats(min_value=0.0, max_value=1e5)),
    margin_per_lot=st.one_of(st.none(), st.floats(min_value=0.0, max_value=1e5)),
    requester=st.sampled_from(Requester),
    target=st.sampled_from([None, a_position(), an_order(), an_order(type=OrderType.BUY)]),
    target_by=st.sampled_from([None, a_position(2, Side.SELL)]),
)


@st.composite
def likely(draw: st.DrawFn) -> Context:
    """Openings with prices in place, so that limits and sizing are what decides."""
    action = draw(st.sampled_from(OPENINGS))
    side = 1 if action.side is Side.BUY else -1
    entry = PRICES[action].get("stop_limit_price") or PRICES[action].get("price") or 1.1
    asked: dict[str, Any] = {
        **PRICES[action],
        "stop_loss": entry - side * draw(st.integers(20, 5000)) / 100_000,
        "volume": draw(st.one_of(st.none(), st.floats(min_value=0.001, max_value=12.0))),
        "risk_percent": draw(st.one_of(st.none(), st.floats(min_value=0.0, max_value=2.5))),
    }
    equity = draw(st.floats(min_value=1.0, max_value=1e6))
    return a_context(
        action,
        signal=asked,
        account=an_account(equity=equity, free_margin=equity * draw(st.floats(0.0, 1.0))),
        day=a_day(start_equity=equity, trades=draw(st.integers(0, 10))),
        symbol=a_symbol(
            volume_min=draw(st.sampled_from([0.01, 0.1])), volume_step=draw(st.sampled_from([0.01, 0.03, 0.1]))
        ),
        positions=draw(st.sampled_from([(), (a_position(),)])),
        in_flight=draw(st.sampled_from([(), (an_exposure(),)])),
        halt=draw(st.sampled_from([Halt(), Halt(), Halt(), HALTED, REDUCING])),
        loss_per_lot=draw(st.one_of(st.none(), st.floats(min_value=0.5, max_value=5_000.0))),
        margin_per_lot=draw(st.floats(min_value=0.0, max_value=5_000.0)),
        throttle_wait_ms=draw(st.sampled_from([0, 0, 0, 50])),
    )


@given(st.one_of(contexts, likely(), likely()))
def test_whatever_is_asked_gets_an_answer_and_no_answer_breaks_a_promise(ctx: Context) -> None:
    answer = evaluate(ctx)
    if isinstance(answer, Denial):
        assert answer.detail
        return
    reducing = reduces_risk(ctx.signal, ctx.target)
    assert ctx.halt.state is HaltState.ACTIVE or reducing
    assert ctx.halt.state is not HaltState.HALTED or ctx.requester is not Requester.SIGNAL
    assert check_halt(ctx.signal, ctx.halt, requester=ctx.requester, target=ctx.target) is None
    assert ctx.requester is Requester.EMERGENCY or ctx.readiness.why_not is None
    if ctx.signal.action.opens:
        assert ctx.symbol is not None
        assert ctx.account is not None
        assert ctx.symbol.volume_min <= answer.volume <= 10.0
        assert ctx.signal.volume is None or answer.volume <= ctx.signal.volume + 1e-9
        assert answer.risk <= ctx.account.equity * 0.02 * (1 + 1e-6) or not ctx.signal.stop_loss
        assert answer.margin + sum(e.margin for e in ctx.in_flight) <= ctx.account.free_margin
        assert ctx.throttle_wait_ms == 0
