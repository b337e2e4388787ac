"""Managed stops: tables worked out by hand, and what no path of prices ever brings about."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.facts import a_position, a_signal, a_symbol

from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Position, Side, SymbolInfo
from mt5_bridge.core.trailing import STEPS, Move, Plan, joined, left_of, next_stop, plan_of

BUY, SELL = Side.BUY, Side.SELL
EURUSD = a_symbol()
US500 = a_symbol("US500", digits=2, point=0.01, tick_size=0.25)
TRAIL, EVEN = Reason.TRAILING_STOP, Reason.BREAK_EVEN


def held(side: Side = BUY, **changes: Any) -> Position:
    stop = 1.0900 if side is BUY else 1.1100
    return a_position(side=side, **{"price_open": 1.1, "stop_loss": stop, **changes})


def asked(trailing: int = 0, even: int = 0) -> Plan:
    return Plan(trailing_points=trailing, break_even_points=even)


@pytest.mark.parametrize(
    ("position", "price", "plan", "expected"),
    [
        # It begins when the position is that many points in profit, not before: 1.1 and 200 points are 1.102.
        (held(), 1.10199, asked(200), None),
        (held(), 1.10200, asked(200), Move(1.1, TRAIL)),
        (held(), 1.10500, asked(200), Move(1.103, TRAIL)),
        (held(SELL), 1.09801, asked(200), None),
        (held(SELL), 1.09500, asked(200), Move(1.097, TRAIL)),
        # From then on it moves by a fiftieth of the distance at least: 4 points of 200, one tick of 20.
        (held(stop_loss=1.103), 1.10503, asked(200), None),
        (held(stop_loss=1.103), 1.10504, asked(200), Move(1.10304, TRAIL)),
        (held(stop_loss=1.103), 1.10321, asked(20), Move(1.10301, TRAIL)),
        # And never back, neither when the price falls nor when somebody brought the stop nearer.
        (held(stop_loss=1.103), 1.10300, asked(200), None),
        (held(stop_loss=1.104), 1.10500, asked(200), None),
        (held(SELL, stop_loss=1.096), 1.09500, asked(200), None),
        # Break-even: to the open price, once the profit is there.
        (held(), 1.10099, asked(even=100), None),
        (held(), 1.10100, asked(even=100), Move(1.1, EVEN)),
        (held(SELL), 1.09900, asked(even=100), Move(1.1, EVEN)),
        (held(stop_loss=1.1001), 1.10500, asked(even=100), None),
        (held(stop_loss=0.0), 1.10100, asked(even=100), Move(1.1, EVEN)),
        # Both: whichever is nearer to the price.
        (held(), 1.10150, asked(200, 100), Move(1.1, EVEN)),
        (held(), 1.10500, asked(200, 100), Move(1.103, TRAIL)),
        (held(), 1.10500, asked(), None),
        (held(), 1.10500, Plan(), None),
        (held(), 0.0, asked(200), None),
    ],
)
def test_where_the_stop_belongs(position: Position, price: float, plan: Plan, expected: Move | None) -> None:
    assert next_stop(position, price, EURUSD, plan) == expected


@pytest.mark.parametrize(
    ("changes", "price", "plan", "expected"),
    [
        # The broker's stops level: break-even waits until the open price is that far away, a trailing stop keeps it.
        ({"stops_level": 300}, 1.10200, asked(even=100), None),
        ({"stops_level": 300}, 1.10300, asked(even=100), Move(1.1, EVEN)),
        ({"stops_level": 300}, 1.10500, asked(200), Move(1.102, TRAIL)),
        # Within the freeze level of stop or target nothing is moved.
        ({"freeze_level": 1199}, 1.10200, asked(200), Move(1.1, TRAIL)),
        ({"freeze_level": 1200}, 1.10200, asked(200), None),
        ({"freeze_level": 0}, 1.10200, asked(200), Move(1.1, TRAIL)),
        ({"point": 0.0}, 1.10500, asked(200), None),
        ({"tick_size": 0.0}, 1.10500, asked(200), Move(1.103, TRAIL)),
    ],
)
def test_what_the_broker_wants(changes: dict[str, Any], price: float, plan: Plan, expected: Move | None) -> None:
    assert next_stop(held(), price, a_symbol(**changes), plan) == expected


def test_a_target_within_the_freeze_level_holds_the_stop() -> None:
    symbol = a_symbol(freeze_level=50)
    assert next_stop(held(take_profit=1.1055), 1.1050, symbol, asked(200)) is None
    assert next_stop(held(take_profit=1.10551), 1.1050, symbol, asked(200)) == Move(1.103, TRAIL)
    assert next_stop(held(SELL, take_profit=1.0945), 1.0950, symbol, asked(200)) is None


@pytest.mark.parametrize(
    ("side", "opened", "price", "plan", "stop"),
    [
        # Ticks of 0.25: a trailing stop is rounded away from the price, break-even to where nothing is lost.
        (BUY, 5000.0, 5010.1, asked(500), 5005.0),
        (SELL, 5000.0, 4989.9, asked(500), 4995.0),
        (BUY, 5000.1, 5010.0, asked(even=500), 5000.25),
        (SELL, 5000.1, 4990.0, asked(even=500), 5000.0),
    ],
)
def test_stops_lie_on_the_symbols_grid(side: Side, opened: float, price: float, plan: Plan, stop: float) -> None:
    position = held(side, price_open=opened, stop_loss=0.0)
    move = next_stop(position, price, US500, plan)
    assert move is not None
    assert move.stop == stop


def test_break_even_between_price_and_tick_waits() -> None:
    position = held(price_open=5000.1, stop_loss=0.0)
    assert next_stop(position, 5000.25, US500, asked(even=10)) is None
    assert next_stop(position, 5000.5, US500, asked(even=10)) == Move(5000.25, EVEN)


def test_what_a_signal_says_of_it() -> None:
    assert plan_of(a_signal()) is None
    assert plan_of(a_signal(trailing_stop_points=200)) == Plan(trailing_points=200)
    assert plan_of(a_signal(trailing_stop_points=0, break_even_points=5)) == asked(0, 5)
    assert not asked().active
    assert not Plan().active
    assert asked(even=1).active


def test_what_a_plan_leaves_open_is_as_before() -> None:
    assert joined(Plan(trailing_points=50), None) == asked(50)
    assert joined(Plan(trailing_points=50), asked(200, 100)) == asked(50, 100)
    assert joined(Plan(break_even_points=0), asked(200, 100)) == asked(200)


def test_break_even_is_done_once() -> None:
    plan = asked(200, 100)
    assert left_of(plan, held()) == plan
    assert left_of(plan, held(stop_loss=0.0)) == plan
    assert left_of(plan, held(stop_loss=1.1)) == asked(200)
    assert left_of(plan, held(SELL, stop_loss=1.0999)) == asked(200)
    assert left_of(plan, held(SELL, stop_loss=1.1001)) == plan
    assert left_of(asked(200), held(stop_loss=1.1)) == asked(200)


# --- on any path

symbols = st.builds(
    lambda tick, stops, freeze: a_symbol(tick_size=tick / 100_000, stops_level=stops, freeze_level=freeze),
    st.sampled_from([1, 5, 25]),
    st.integers(0, 60),
    st.integers(0, 20),
)
plans = st.builds(asked, st.integers(0, 300), st.integers(0, 300))
paths = st.lists(st.integers(-800, 800).map(lambda points: round(1.1 + points / 100_000, 5)), min_size=1, max_size=30)


def moved(position: Position, price: float, symbol: SymbolInfo, plan: Plan) -> Position:
    move = next_stop(position, price, symbol, plan)
    return position if move is None else msgspec.structs.replace(position, stop_loss=move.stop)


def mirrored(price: float) -> float:
    return round(2.2 - price, 5) if price else 0.0


@given(st.sampled_from(Side), symbols, plans, paths, st.booleans())
def test_no_path_of_prices_moves_a_stop_back_or_too_near(
    side: Side, symbol: SymbolInfo, plan: Plan, path: list[float], bare: bool
) -> None:
    position = held(side, **({"stop_loss": 0.0} if bare else {}))
    sign = 1 if side is BUY else -1
    for price in path:
        after = moved(position, price, symbol, plan)
        if after.stop_loss != position.stop_loss:
            assert side.nearer(after.stop_loss, position.stop_loss)
            if position.stop_loss:
                assert abs(after.stop_loss - position.stop_loss) >= symbol.tick_size - 1e-9
            assert sign * (price - after.stop_loss) > -1e-9
            assert sign * (price - after.stop_loss) >= symbol.stops_level * symbol.point - 1e-9
            assert abs(after.stop_loss / symbol.tick_size - round(after.stop_loss / symbol.tick_size)) < 1e-6
        position = after
        assert moved(position, price, symbol, plan) == position, "one look is enough"


@given(st.sampled_from(Side), st.integers(1, 300), paths)
def test_a_trailing_stop_is_never_further_behind_than_its_distance_and_a_step(
    side: Side, points: int, path: list[float]
) -> None:
    position, sign = held(side), 1 if side is BUY else -1
    for price in path:
        position = moved(position, price, EURUSD, asked(points))
        profit = round(sign * (price - position.price_open) / EURUSD.point)
        behind = round(sign * (price - position.stop_loss) / EURUSD.point)
        assert profit < points or behind < points + max(1.0, points / STEPS)


@given(symbols, plans, paths)
def test_a_short_is_a_long_in_a_mirror(symbol: SymbolInfo, plan: Plan, path: list[float]) -> None:
    long, short = held(BUY), held(SELL)
    for price in path:
        long, short = moved(long, price, symbol, plan), moved(short, mirrored(price), symbol, plan)
        assert short.stop_loss == mirrored(long.stop_loss)


@given(st.sampled_from(Side), symbols, plans, paths, st.sets(st.integers(0, 29)))
def test_restarts_end_with_the_same_stop(
    side: Side, symbol: SymbolInfo, plan: Plan, path: list[float], restarts: set[int]
) -> None:
    """What a later life has is what the broker shows and the plan that is left: nothing else is remembered."""
    steady = restarted = held(side)
    left = plan
    for number, price in enumerate(path):
        if number in restarts:
            left = msgspec.json.decode(msgspec.json.encode(left_of(left, restarted)), type=Plan)
            restarted = msgspec.json.decode(msgspec.json.encode(restarted), type=Position)
        steady, restarted = moved(steady, price, symbol, plan), moved(restarted, price, symbol, left)
        assert restarted.stop_loss == steady.stop_loss


@pytest.mark.parametrize(
    ("side", "stop", "than", "expected"),
    [
        (BUY, 1.2, 1.1, True), (BUY, 1.1, 1.2, False), (BUY, 1.1, 1.1, False), (BUY, 1.1, 0.0, True),
        (SELL, 1.1, 1.2, True), (SELL, 1.2, 1.1, False), (SELL, 1.1, 1.1, False), (SELL, 1.1, 0.0, True),
        (BUY, 0.0, 1.1, False), (SELL, 0.0, 1.1, False), (SELL, 0.0, 0.0, False),
    ],
)  # fmt: skip
def test_which_stop_is_nearer(side: Side, stop: float, than: float, expected: bool) -> None:
    assert side.nearer(stop, than) is expected
