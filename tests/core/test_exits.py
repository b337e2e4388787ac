"""What an exit means for the tickets there are."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.facts import NOW, a_position, a_quote, a_signal, a_symbol, an_order

from mt5_bridge.core import exits
from mt5_bridge.core.decision import Denial
from mt5_bridge.core.exits import Close
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Action, Deed, Order, OrderRequest, OrderType, Position, Side

OURS = 235 << 32
OLD, NEW = a_position(2, time_msc=1, magic=OURS), a_position(1, time_msc=2, magic=OURS + 1)
MANUAL, OTHER = a_position(3), a_position(4, symbol="GBPUSD", magic=OURS + 2)
ALL = [NEW, OLD, MANUAL, OTHER]


def code(answer: object) -> Reason | None:
    return answer.code if isinstance(answer, Denial) else None


def chosen(**asked: Any) -> list[int] | Reason | None:
    found = exits.choose(
        a_signal(Action.CLOSE, **asked),
        "EURUSD",
        ALL,
        lambda position: position.magic >= OURS,
        frozenset({OURS + 1}),
        frozenset({3}),
    )
    return code(found) if isinstance(found, Denial) else [position.ticket for position in found]


def test_what_a_close_is_about() -> None:
    assert chosen(position=3) == [3]
    assert chosen(position=9) is Reason.NOT_FOUND
    assert chosen(position=4) is Reason.INVALID
    assert chosen(target_signal_id="s0") == [1, 3]
    assert chosen() == [2, 1]
    nothing = exits.choose(a_signal(Action.CLOSE), "EURUSD", [MANUAL], lambda position: False)
    assert nothing == Denial(code=Reason.NOT_FOUND, detail="not found: a position of this bridge in EURUSD")


def shared(volume: float | None, held: list[float], **changes: Any) -> list[float] | Reason | None:
    positions = [a_position(ticket, volume=lots) for ticket, lots in enumerate(held, 1)]
    owned = changes.pop("owned", None)
    found = exits.share_out(positions, volume, a_symbol(**changes), owned)
    return code(found) if isinstance(found, Denial) else [leg.volume for leg in found]


@pytest.mark.parametrize(
    ("volume", "held", "changes", "expected"),
    [
        (None, [0.1, 0.2], {}, [0.1, 0.2]),
        (0.25, [0.1, 0.2], {}, [0.1, 0.15]),
        (0.1, [0.1, 0.2], {}, [0.1]),
        (9.0, [0.1, 0.2], {}, [0.1, 0.2]),
        (0.119, [0.1, 0.2], {}, [0.1, 0.01]),
        (0.105, [0.1, 0.2], {}, [0.1]),
        (0.005, [0.1], {}, Reason.BELOW_MIN_VOLUME),
        (None, [0.005], {}, [0.005]),
        (0.03, [0.1], {"volume_min": 0.05}, Reason.BELOW_MIN_VOLUME),
        (0.033, [0.1], {"volume_step": 0.0}, [0.033]),
        (None, [0.5, 0.5], {"owned": {1: 0.2}}, [0.2, 0.5]),
        (None, [0.5], {"owned": {1: 0.0}}, Reason.BELOW_MIN_VOLUME),
        (None, [0.5], {"owned": {1: 0.0}, "volume_min": 0.0}, Reason.BELOW_MIN_VOLUME),
    ],
)
def test_shares(volume: float | None, held: list[float], changes: dict[str, Any], expected: object) -> None:
    assert shared(volume, held, **changes) == expected


lots = st.integers(1, 500).map(lambda cents: cents / 100)


@given(st.one_of(st.none(), lots), st.lists(lots, min_size=1, max_size=6))
def test_shares_never_exceed_what_is_held_or_asked(volume: float | None, held: list[float]) -> None:
    found = shared(volume, held)
    assert isinstance(found, list)
    assert sum(found) == pytest.approx(min(sum(held), volume or 1e9))
    assert all(part <= most for part, most in zip(found, held, strict=False))


@pytest.mark.parametrize(("side", "type_", "price"), [(Side.BUY, OrderType.SELL, 1.1), (Side.SELL, OrderType.BUY, 1.2)])
def test_a_close_is_the_opposite_order_on_its_ticket(side: Side, type_: OrderType, price: float) -> None:
    close = Close(a_position(7, side), 0.2)
    assert exits.close_request(close, a_quote(1.1, 1.2), magic=5, comment="c", deviation_points=10) == OrderRequest(
        deed=Deed.DEAL,
        symbol="EURUSD",
        type=type_,
        volume=0.2,
        price=price,
        deviation_points=10,
        magic=5,
        comment="c",
        position=7,
    )


def test_a_close_by_needs_two_opposite_positions_of_one_symbol() -> None:
    held = {1: a_position(1), 2: a_position(2, Side.SELL), 3: a_position(3), 4: a_position(4, Side.SELL, symbol="X")}

    def ask(position: int, order: int) -> OrderRequest | Denial:
        return exits.close_by_request(
            a_signal(Action.CLOSE_BY, position=position, order=order), held, magic=5, comment="c"
        )

    request = ask(1, 2)
    assert isinstance(request, OrderRequest)
    assert (request.deed, request.position, request.position_by) == (Deed.CLOSE_BY, 1, 2)
    assert ask(9, 2) == Denial(code=Reason.NOT_FOUND, detail="there is no position 9")
    assert ask(1, 9) == Denial(code=Reason.NOT_FOUND, detail="there is no position 9")
    assert code(ask(1, 3)) is Reason.INVALID
    assert code(ask(1, 4)) is Reason.INVALID


def found(action: Action, **asked: Any) -> int | Reason | None:
    answer = exits.find_target(
        a_signal(action, **asked), [OLD, NEW], [an_order(11, magic=OURS), an_order(12)], frozenset({OURS})
    )
    return code(answer) if isinstance(answer, Denial) else answer.ticket


@pytest.mark.parametrize(
    ("action", "asked", "expected"),
    [
        (Action.MODIFY, {"position": 1}, 1),
        (Action.MODIFY, {"order": 12}, 12),
        (Action.MODIFY, {"position": 12}, Reason.NOT_FOUND),
        (Action.MODIFY, {"order": 1}, Reason.NOT_FOUND),
        (Action.MODIFY, {"target_signal_id": "s0"}, Reason.INVALID),
        (Action.CANCEL, {"target_signal_id": "s0"}, 11),
        (Action.CANCEL, {"order": 12}, 12),
        (Action.CANCEL, {"position": 12}, 12),
        (Action.CANCEL, {"position": 1}, Reason.NOT_FOUND),
    ],
)
def test_what_a_modify_or_cancel_is_about(action: Action, asked: dict[str, Any], expected: object) -> None:
    assert found(action, **asked) == expected


@pytest.mark.parametrize(
    ("action", "asked", "words"),
    [
        (Action.CANCEL, {"order": 5}, "there is no pending order 5"),
        (Action.MODIFY, {"position": 5}, "there is no position or pending order 5"),
        (Action.MODIFY, {"target_signal_id": "s0"}, "there is no position or pending order of signal s0"),
    ],
)
def test_what_is_missing_is_named(action: Action, asked: dict[str, Any], words: str) -> None:
    answer = exits.find_target(a_signal(action, **asked), [], [])
    assert answer == Denial(code=Reason.NOT_FOUND, detail=words)


def modified(target: Position | Order, **asked: Any) -> OrderRequest:
    return exits.modify_request(a_signal(Action.MODIFY, **asked), target, magic=5)


def test_a_modify_keeps_what_it_does_not_name() -> None:
    position = a_position(1, take_profit=1.2)
    assert modified(position, stop_loss=1.08) == OrderRequest(
        deed=Deed.SLTP, symbol="EURUSD", position=1, stop_loss=1.08, take_profit=1.2, magic=5, keeps_target=True
    )
    target = modified(position, take_profit=0.0)
    assert (target.take_profit, target.keeps_stop, target.keeps_target, target.nearer_only) == (0.0, True, False, False)
    short = modified(a_position(1, side=Side.SELL, stop_loss=1.3, take_profit=1.0), stop_loss=1.25)
    assert (short.type, short.nearer_only, short.keeps_stop) == (OrderType.SELL, True, False)
    order = an_order(11, OrderType.BUY_STOP_LIMIT, price=1.2, stop_limit_price=1.19, expiration_msc=5)
    kept = modified(order, take_profit=1.3)
    assert (kept.deed, kept.price, kept.stop_limit_price, kept.stop_loss, kept.expiration_msc, kept.volume) == (
        Deed.MODIFY,
        1.2,
        1.19,
        order.stop_loss,
        5,
        0.2,
    )
    moved = modified(order, price=1.25, stop_limit_price=1.24, expiration=NOW)
    assert (moved.price, moved.stop_limit_price, moved.expiration_msc) == (1.25, 1.24, NOW)


def test_a_cancel_removes() -> None:
    request = exits.cancel_request(an_order(11), magic=5)
    assert request == OrderRequest(deed=Deed.REMOVE, symbol="EURUSD", order=11, magic=5)


def opened(action: Action, **asked: Any) -> OrderRequest:
    return exits.opening_request(
        a_signal(action, **asked), a_symbol(), a_quote(1.1, 1.2), volume=0.3, magic=5, comment="c", deviation=20
    )


def test_openings() -> None:
    market = opened(Action.SELL, price=9.9, deviation_points=3, take_profit=1.0)
    assert (market.deed, market.type, market.price, market.deviation_points) == (Deed.DEAL, OrderType.SELL, 1.1, 3)
    assert (market.volume, market.stop_loss, market.take_profit, market.expiration_msc) == (0.3, 1.1010, 1.0, 0)
    limit = opened(Action.BUY_STOP_LIMIT, price=1.3, stop_limit_price=1.25, stop_loss=None, expiration=NOW)
    assert (limit.deed, limit.type, limit.price, limit.stop_limit_price) == (
        Deed.PENDING,
        OrderType.BUY_STOP_LIMIT,
        1.3,
        1.25,
    )
    assert (limit.stop_loss, limit.deviation_points, limit.expiration_msc) == (0.0, 20, NOW)
