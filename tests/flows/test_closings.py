from support.facts import NOW, a_deal, a_position

from mt5_bridge.core.model import Deal, DealEntry, Side
from mt5_bridge.flows import closings
from mt5_bridge.flows.closings import Closings, closing


def out(ticket: int, position: int, *, volume: float = 0.5, at: int = NOW, entry: DealEntry = DealEntry.OUT) -> Deal:
    return a_deal(ticket, type=1, entry=entry, position_id=position, volume=volume, time_msc=at)


def test_what_closed_a_position_is_the_other_side_since_it_opened() -> None:
    position = a_position(7)
    opened = a_deal(1, position_id=7)
    before = out(2, 7, at=position.time_msc - 1)
    same_side = a_deal(3, entry=DealEntry.INOUT, position_id=7)
    charge = a_deal(4, type=2, position_id=7)
    turned = out(5, 7, entry=DealEntry.INOUT)
    assert closing(position, [opened, before, same_side, charge, turned]) == [turned]
    assert closing(a_position(7, Side.SELL), [same_side, turned]) == [same_side]


def test_deals_are_known_once_they_close_the_whole_and_until_they_are_told() -> None:
    known, position = Closings(), a_position(7, volume=0.5)
    assert known.of(position) == []
    known.note([a_deal(1, position_id=7, volume=0.5), out(2, 7, volume=0.2)], NOW - 3_600_000)
    assert known.of(position) == [], "0.3 lots are still to be found"
    known.note([out(3, 7, volume=0.3)], NOW)
    assert [deal.ticket for deal in known.of(position)] == [2, 3]
    known.forget(position)
    assert known.of(position) == []


def test_a_position_from_before_the_deals_are_known_has_to_be_asked_for() -> None:
    known, position = Closings(), a_position(7, volume=0.5)
    known.note([out(2, 7)], position.time_msc + 1)
    assert known.of(position) == [], "a part of it may have been closed earlier"


def test_a_position_is_known_by_its_identifier() -> None:
    known = Closings()
    known.note([out(2, 7)], 0)
    assert known.of(a_position(8, identifier=7))
    known.forget(a_position(8, identifier=7))
    assert not known.of(a_position(8, identifier=7))


def test_what_nobody_asks_about_is_forgotten_and_nothing_older_counts_as_known() -> None:
    known = Closings()
    known.note([out(1, 1, at=NOW)], 0)
    known.note([out(number, number, at=NOW) for number in range(2, closings.MOST + 2)], 0)
    older, younger = a_position(2, time_msc=NOW - 5), a_position(2, time_msc=NOW + 1)
    assert known.of(older) == [], "of one that old, a part may be among what was forgotten"
    known.note([out(9000, 2, at=NOW + 2)], 0)
    assert [deal.ticket for deal in known.of(younger)] == [9000]
