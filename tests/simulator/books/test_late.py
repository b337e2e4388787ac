"""Orders on their way are kept with the account."""

from pathlib import Path

import pytest

from mt5_bridge.simulator.books.folder import PaperStateError
from mt5_bridge.simulator.books.late import LateOrders
from mt5_bridge.simulator.books.memory import MemoryStore
from mt5_bridge.simulator.books.store import Store
from mt5_bridge.simulator.core.rules import Request


def test_they_come_in_order_of_time_and_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.sqlite")
    late = LateOrders(store)
    for due in (300, 100, 200):
        late.add(due, Request(action=1, symbol="EURUSD", volume=0.1, magic=2**64 - due))
    assert late.take(99) == []
    assert [(order.due_msc, order.request.magic) for order in late.take(200)] == [
        (100, 2**64 - 100),
        (200, 2**64 - 200),
    ]
    again = LateOrders(store)
    assert [order.due_msc for order in again.take(1000)] == [300]
    assert LateOrders(store).take(1000) == []
    again.add(400, Request())
    again.clear()
    again.clear()
    assert LateOrders(store).take(1000) == []
    store.close()


def test_a_price_that_is_no_number_is_kept_as_it_came() -> None:
    store = MemoryStore()
    LateOrders(store).add(1, Request(price=float("nan"), sl=float("inf")))
    [order] = LateOrders(store).take(1)
    assert order.request.price != order.request.price
    assert order.request.sl == float("inf")
    store.close()


@pytest.mark.parametrize("damage", ["[{", "AAAA", "////"])
def test_damage_is_told_and_the_file_set_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.sqlite"
    store = Store(path)
    store.put((("late_orders", damage),))
    with pytest.raises(PaperStateError, match="orders on their way"):
        LateOrders(store)
    assert not path.exists()
    (tmp_path / "a.sqlite.corrupt-1").unlink()
