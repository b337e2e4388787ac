import asyncio
from typing import Any

import msgspec
import pytest
from support.facts import a_deal, a_position, an_order
from support.fake_terminal import START_MS, FakeTerminal
from support.flow_kit import clock_of_loop
from support.simulated import simulated

from mt5_bridge.core.errors import MT5DataError
from mt5_bridge.core.intent import IntentState
from mt5_bridge.core.model import DealEntry, Deed, OrderRequest, OrderState, OrderType, Side
from mt5_bridge.core.times import DAY
from mt5_bridge.flows.settle import Case, Picture, Settler, judge

MAGIC = 99


def a_case(**request: Any) -> Case:
    fields: dict[str, Any] = {"deed": Deed.DEAL, "symbol": "EURUSD", "volume": 0.1, "magic": MAGIC}
    return Case(magic=MAGIC, request=OrderRequest(**(fields | request)), sent_msc=START_MS)


def a_picture(**lists: Any) -> Picture:
    return Picture(**({"positions": [], "orders": [], "past_orders": [], "deals": []} | lists))


def deal(ticket: int = 1, **changes: Any) -> Any:
    return a_deal(ticket, **({"order": 50, "position_id": 50, "magic": MAGIC} | changes))


def past(ticket: int = 50, state: OrderState = OrderState.FILLED, **changes: Any) -> Any:
    return an_order(ticket, type=OrderType.BUY, **({"state": state, "magic": MAGIC} | changes))


def verdict(case: Case, **lists: Any) -> tuple[IntentState, bool] | None:
    found = judge(case, a_picture(**lists))
    return None if found is None else (found.state, found.whole)


# --- openings


def test_nothing_anywhere_says_nothing() -> None:
    assert verdict(a_case()) is None
    assert verdict(a_case(), deals=[deal(magic=5, order=7)], past_orders=[past(7, magic=5)]) is None


def test_an_opening_is_found_by_its_deals() -> None:
    found = judge(a_case(), a_picture(deals=[deal(1, volume=0.04, price=1.1), deal(2, volume=0.06, price=1.2)]))
    assert found is not None
    assert (found.state, found.order, found.deal, found.position) == (IntentState.FILLED, 50, 2, 50)
    assert found.volume == pytest.approx(0.1)
    assert found.price == pytest.approx(1.16)


def test_deals_without_magic_are_found_by_their_order() -> None:
    assert verdict(a_case(), deals=[deal(magic=0)], past_orders=[past()]) == (IntentState.FILLED, True)


def test_deposits_are_no_deals() -> None:
    assert verdict(a_case(), deals=[deal(type=2)]) is None


def test_a_part_is_the_whole_only_when_the_order_is_over() -> None:
    part = deal(volume=0.05)
    assert verdict(a_case(), deals=[part]) == (IntentState.PARTIAL, False)
    assert verdict(a_case(), deals=[part], past_orders=[past()]) == (IntentState.PARTIAL, True)


def test_the_stop_that_closed_it_is_not_its_fill() -> None:
    out = deal(2, order=60, entry=DealEntry.OUT, type=1)
    found = judge(a_case(), a_picture(deals=[deal(), out]))
    assert found is not None
    assert found.deal == 1


def test_an_opening_is_found_by_its_position() -> None:
    whole, part = a_position(50, magic=MAGIC, volume=0.1), a_position(50, magic=MAGIC, volume=0.05)
    assert verdict(a_case(), positions=[a_position(1), whole]) == (IntentState.FILLED, True)
    assert verdict(a_case(), positions=[part]) == (IntentState.PARTIAL, False)


def test_an_order_in_the_list_is_placed_or_still_being_executed() -> None:
    live = [an_order(49), an_order(50, magic=MAGIC)]
    assert verdict(a_case(deed=Deed.PENDING), orders=live) == (IntentState.PLACED, True)
    assert verdict(a_case(), orders=live, deals=[deal(volume=0.05)]) == (IntentState.UNKNOWN, True)


@pytest.mark.parametrize(
    ("state", "deed", "expected"),
    [
        (OrderState.REJECTED, Deed.DEAL, IntentState.REJECTED),
        (OrderState.CANCELED, Deed.DEAL, IntentState.REJECTED),
        (OrderState.EXPIRED, Deed.PENDING, IntentState.CANCELLED),
        (OrderState.CANCELED, Deed.PENDING, IntentState.CANCELLED),
        (OrderState.FILLED, Deed.PENDING, None),
    ],
)
def test_an_order_of_the_past(state: OrderState, deed: Deed, expected: IntentState | None) -> None:
    found = judge(a_case(deed=deed), a_picture(past_orders=[past(1, magic=1), past(state=state)]))
    assert (found and found.state) == expected


# --- exits


def test_a_close_is_found_by_its_deal_and_may_be_partial() -> None:
    case = a_case(position=50)
    assert verdict(case, deals=[deal(entry=DealEntry.OUT)]) == (IntentState.CLOSED, True)
    assert verdict(case, deals=[deal(volume=0.04)], past_orders=[past()]) == (IntentState.PARTIAL, True)
    assert verdict(case, positions=[a_position(50, magic=MAGIC)]) is None


def test_a_close_by_is_found_by_its_magic_or_by_what_it_did() -> None:
    case = a_case(deed=Deed.CLOSE_BY, position=50, position_by=51, volume=0.0)
    both = [deal(1, entry=DealEntry.OUT_BY), deal(2, position_id=51, entry=DealEntry.OUT_BY)]
    for deals in (both, [msgspec.structs.replace(d, magic=0) for d in both]):
        found = judge(case, a_picture(deals=deals))
        assert found is not None
        assert (found.state, found.volume, found.position) == (IntentState.CLOSED, 0.1, 50)
    old = [deal(1, magic=0, entry=DealEntry.OUT_BY, time_msc=START_MS - 5000)]
    assert verdict(case, deals=old) is None
    (other,) = [deal(1, position_id=51, entry=DealEntry.OUT_BY)]
    assert verdict(case, deals=[other]) == (IntentState.CLOSED, True)


def test_stops_are_found_on_the_position() -> None:
    case = a_case(deed=Deed.SLTP, position=50, stop_loss=1.09, take_profit=1.2)
    held = a_position(50, stop_loss=1.09, take_profit=1.2)
    assert verdict(case, positions=[a_position(1), held]) == (IntentState.MODIFIED, True)
    assert verdict(case, positions=[msgspec.structs.replace(held, stop_loss=1.08)]) is None
    assert verdict(case) == (IntentState.REJECTED, True)


@pytest.mark.parametrize(("side", "nearer", "looser"), [(Side.BUY, 1.095, 1.085), (Side.SELL, 1.085, 1.095)])
def test_a_stop_that_may_only_come_nearer_is_set_wherever_it_stands_nearer(
    side: Side, nearer: float, looser: float
) -> None:
    type_ = OrderType.of(side)
    case = a_case(
        deed=Deed.SLTP,
        type=type_,
        position=50,
        stop_loss=1.09,
        take_profit=1.2,
        nearer_only=True,
        keeps_target=True,
    )
    turned = a_position(50, side.opposite, stop_loss=1.09, take_profit=1.2)
    assert verdict(case, positions=[turned]) == (IntentState.REJECTED, True), "another position by now"
    for stands in (1.09, 1.0900000000000003, nearer):
        held = a_position(50, side, stop_loss=stands, take_profit=1.3)
        assert verdict(case, positions=[held]) == (IntentState.MODIFIED, True)
    for stands in (looser, 0.0):
        assert verdict(case, positions=[a_position(50, side, stop_loss=stands, take_profit=1.2)]) is None


def test_only_what_was_to_change_is_looked_for() -> None:
    held = a_position(50, stop_loss=1.09, take_profit=1.3)
    target = a_case(deed=Deed.SLTP, position=50, stop_loss=1.08, take_profit=1.3, keeps_stop=True)
    assert verdict(target, positions=[held]) == (IntentState.MODIFIED, True)
    assert verdict(target, positions=[msgspec.structs.replace(held, take_profit=1.2)]) is None
    stop = a_case(deed=Deed.SLTP, position=50, stop_loss=1.09, take_profit=1.2, keeps_target=True)
    assert verdict(stop, positions=[held]) == (IntentState.MODIFIED, True)
    assert verdict(stop, positions=[msgspec.structs.replace(held, stop_loss=1.08)]) is None


def test_a_modified_order_is_found_in_the_list() -> None:
    case = a_case(deed=Deed.MODIFY, order=11, price=1.09, stop_loss=1.085)
    assert verdict(case, orders=[an_order(1), an_order(11)]) == (IntentState.MODIFIED, True)
    assert verdict(case, orders=[an_order(11, price=1.08)]) is None
    assert verdict(case) == (IntentState.REJECTED, True)


def test_a_removed_order_is_gone() -> None:
    case = a_case(deed=Deed.REMOVE, order=11)
    assert verdict(case, orders=[an_order(11)]) is None
    assert verdict(case, past_orders=[past(11, OrderState.CANCELED)]) == (IntentState.CANCELLED, True)
    assert verdict(case, past_orders=[past(11, OrderState.FILLED)]) == (IntentState.REJECTED, True)
    assert verdict(case) == (IntentState.CANCELLED, False)


# --- the look-up


async def resolved(terminal: FakeTerminal, case: Case, window_s: float = 10.0) -> tuple[Any, int]:
    clock = clock_of_loop()
    terminal.keep_time(clock.now_ms)
    settler = Settler(terminal, clock, window_s=window_s)
    began = clock.now_ms()
    found = await settler.resolve(case)
    assert not settler.open
    assert settler.resolved + settler.abandoned == 1
    return found, clock.now_ms() - began


@simulated
async def test_it_is_given_up_after_the_window_only() -> None:
    found, took = await resolved(FakeTerminal(), a_case())
    assert found.state is IntentState.ABANDONED
    assert 10_000 <= took <= 11_500


@simulated
async def test_a_change_without_effect_is_refused() -> None:
    terminal = FakeTerminal()
    terminal.positions[50] = a_position(50)
    found, _ = await resolved(terminal, a_case(deed=Deed.SLTP, position=50, stop_loss=1.0), 1.0)
    assert (found.state, found.position) == (IntentState.REJECTED, 50)


@simulated
async def test_half_a_truth_is_taken_when_the_window_is_over() -> None:
    terminal = FakeTerminal()
    terminal.positions[50] = a_position(50, magic=MAGIC, volume=0.05, time_msc=START_MS)
    found, took = await resolved(terminal, a_case(), 2.0)
    assert found.state is IntentState.PARTIAL
    assert took >= 2000


@simulated
async def test_a_read_that_fails_says_nothing() -> None:
    terminal = FakeTerminal()
    terminal.failures["get_history_deals"] = MT5DataError("None")
    clock = clock_of_loop()
    settler = Settler(terminal, clock, window_s=1.0)
    with pytest.raises(MT5DataError):
        await settler.look(a_case())


@simulated
async def test_a_terminal_without_its_server_says_nothing_nor_does_its_history_at_once() -> None:
    terminal, clock = FakeTerminal(), clock_of_loop()
    terminal.keep_time(clock.now_ms)
    settler = Settler(terminal, clock, window_s=5.0)
    online = terminal.terminal
    terminal.terminal = msgspec.structs.replace(online, connected=False)
    case = a_case()
    found = asyncio.create_task(settler.resolve(case))
    await asyncio.sleep(60)
    assert not found.done()
    terminal.terminal = online
    await asyncio.sleep(3)
    assert not found.done(), "history may lag"
    assert (await asyncio.wait_for(found, 10)).state is IntentState.ABANDONED


@simulated
async def test_the_past_is_looked_at_from_a_day_before_the_intent_to_a_day_after_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The terminal's clock is not ours, and dates it is asked for are its own."""
    terminal, clock = FakeTerminal(), clock_of_loop()
    asked: list[tuple[int, int]] = []

    async def noted(since_msc: int, until_msc: int, **options: Any) -> list[Any]:
        asked.append((since_msc, until_msc))
        return []

    monkeypatch.setattr(terminal, "get_history_orders", noted)
    monkeypatch.setattr(terminal, "get_history_deals", noted)
    await Settler(terminal, clock, window_s=1.0).picture(START_MS)
    assert asked == [(START_MS - DAY, clock.now_ms() + DAY)] * 2
