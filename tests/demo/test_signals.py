"""The demo's signals: honest ones that a bridge can carry out, and bad ones that are bad in one way each."""

from random import Random

import msgspec
import pytest

from mt5_bridge.core import wire
from mt5_bridge.core.errors import WireError
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import Action
from mt5_bridge.core.times import parse_time
from mt5_bridge.demo.signals import ROUND, Draft, Live, Price, Situation, draft

NOON = 1_577_880_000_000
SEEN = Situation(
    prices={"EURUSD": Price(1.10000, 1.10010, 5), "USDJPY": Price(110.00, 110.02, 3)},
    positions=[Live("old-1", "EURUSD", True, 1.1), Live("old-2", "EURUSD", False, 1.1)],
    pendings=[Live("old-3", "USDJPY", True, 109.0)],
    past_ids=["old-1"],
    now_msc=NOON,
)
NOTHING_OPEN = msgspec.structs.replace(SEEN, positions=[], pendings=[], past_ids=[])


def one(kind: str, seen: Situation = SEEN, seed: int = 1) -> Draft:
    return draft(ROUND.index(kind), "run", Random(seed), seen)


def signal(drafted: Draft) -> TradingSignal:
    return wire.decode_signal(wire.decode(drafted.value).data)


def test_the_same_seed_gives_the_same_signals() -> None:
    def whole_round(seed: int) -> list[bytes]:
        random = Random(seed)
        return [draft(step, "run", random, SEEN).value for step in range(2 * len(ROUND))]

    assert whole_round(7) == whole_round(7)
    assert whole_round(7) != whole_round(8)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["buy", "sell", "buy_limit", "sell_stop"])
def test_an_opening_has_its_stop_and_target_on_the_right_sides(kind: str, seed: int) -> None:
    drafted = one(kind, seed=seed)
    opened = signal(drafted)
    price = SEEN.prices[opened.symbol]
    entry = opened.price or (price.ask if kind == "buy" else price.bid)
    assert opened.stop_loss is not None
    assert opened.take_profit is not None
    below, above = sorted((opened.stop_loss, opened.take_profit))
    assert below < entry < above
    assert (opened.stop_loss < entry) == kind.startswith("buy")
    assert opened.price is None or opened.price < price.bid
    assert round(opened.stop_loss, price.digits) == opened.stop_loss
    assert drafted.bad is None


def test_what_is_open_is_modified_closed_and_cancelled() -> None:
    closing, moving, cancelling = signal(one("close")), signal(one("modify")), signal(one("cancel"))
    assert (closing.action, closing.target_signal_id, closing.volume) == (Action.CLOSE, "old-1", None)
    assert (moving.action, moving.symbol) == (Action.MODIFY, "EURUSD")
    assert moving.stop_loss is not None
    assert moving.stop_loss < 1.1
    assert (cancelling.action, cancelling.target_signal_id) == (Action.CANCEL, "old-3")
    assert one("cancel").target == "old-3"


@pytest.mark.parametrize("kind", ["modify", "close", "cancel"])
def test_with_nothing_open_it_buys(kind: str) -> None:
    assert one(kind, NOTHING_OPEN).action == "BUY"


def test_without_a_price_for_the_target_it_buys() -> None:
    elsewhere = msgspec.structs.replace(SEEN, positions=[Live("old-9", "XAUUSD", True, 2000.0)])
    assert one("modify", elsewhere).action == "BUY"


def test_each_bad_signal_is_bad_in_its_own_way() -> None:
    assert NOON - parse_time(signal(one("stale")).created_at or 0) == 60_000
    assert signal(one("unknown_symbol")).symbol == "NOSUCH"
    assert signal(one("too_large")).volume == 500
    assert signal(one("no_stop_loss")).stop_loss is None
    assert signal(one("duplicate")).signal_id == "old-1"
    assert signal(one("other_account")).account == "999"
    with pytest.raises(WireError):
        wire.decode(one("malformed").value)
    assert all(one(kind).bad for kind in ROUND if kind not in {d for d in ROUND if one(d).bad is None})


def test_which_ones_get_no_answer() -> None:
    silent = {kind for kind in ROUND if not one(kind).answered}
    assert silent == {"duplicate", "malformed", "other_account"}
    assert one("duplicate", NOTHING_OPEN).bad == "a minute old"


def test_a_wide_spread_moves_the_stop_away() -> None:
    wide = msgspec.structs.replace(SEEN, prices={"BTCUSD": Price(7100.0, 7120.0, 2)})
    opened = signal(one("buy", wide))
    assert opened.stop_loss is not None
    assert opened.stop_loss <= 7120.0 - 5 * 20 + 0.01
