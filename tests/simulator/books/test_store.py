"""What an account's file takes, and gives back as it was."""

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.paper import begin

import mt5_bridge.simulator as mt5
from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator.books.folder import PaperStateError
from mt5_bridge.simulator.books.memory import AnyStore, MemoryStore
from mt5_bridge.simulator.books.store import By, Store
from mt5_bridge.simulator.core.ledger import Ledger
from mt5_bridge.simulator.core.records import Change, Deal
from mt5_bridge.simulator.core.rules import Request

PENDING: dict[str, Any] = {"action": 5, "symbol": "EURUSD", "volume": 0.1, "type": 2, "price": 0.9}


def deal(ticket: int, **fields: Any) -> Deal:
    plain: dict[str, Any] = {
        "order": 0, "time_msc": 0, "type": 2, "entry": 0, "magic": 0, "position_id": 0, "reason": 0, "volume": 0.0,
        "price": 0.0, "profit": 0.0, "symbol": "", "comment": "",
    }  # fmt: skip
    return Deal(ticket=ticket, **{**plain, **fields})


class NoMoney:
    digits = 2

    def profit(self, *_: Any) -> Decimal:
        raise AssertionError

    commission = profit

    def margin_rate(self, *_: Any) -> float:
        raise AssertionError


def opened(path: Path) -> tuple[Store, Ledger]:
    store, ledger = Store(path), Ledger(MarginMode.HEDGING, NoMoney())
    store.load(ledger)
    return store, ledger


@pytest.mark.parametrize("comment", ["", "c", "\u00e9\U0001f600", "\ud800", "a\ud83dz\u20ac", "EUR\0USD"])
@pytest.mark.parametrize("magic", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_any_comment_and_magic_are_kept(tmp_path: Path, comment: str, magic: int) -> None:
    (store, ledger), kept = opened(tmp_path / "a.sqlite"), deal(1, comment=comment, magic=magic)
    store.commit(Change(deals=[kept]), ledger, 0)
    assert store.deals(By.POSITION, (0,)) == [kept]
    store.close()


def test_what_sqlite_cannot_hold_is_a_write_that_fails(tmp_path: Path) -> None:
    store, ledger = opened(tmp_path / "a.sqlite")
    with pytest.raises(sqlite3.DataError):
        store.commit(Change(deals=[deal(1), deal(2**63)]), ledger, 0)
    assert store.deals(By.POSITION, (0,)) == []
    store.commit(Change(deals=[deal(1)]), ledger, 0)
    assert len(store.deals(By.POSITION, (0,))) == 1
    store.close()


def waiting(store: AnyStore) -> list[tuple[int, Request]]:
    ledger = Ledger(MarginMode.HEDGING, NoMoney())
    store.load(ledger)
    found = []
    while order := ledger.due(1000):
        found.append((order.due_msc, ledger.take_late(order)))
    return found


@pytest.mark.parametrize("on_disk", [True, False])
def test_late_orders_come_in_order_of_time_and_leave_with_the_step_that_executes_them(
    tmp_path: Path, on_disk: bool
) -> None:
    store: AnyStore = Store(tmp_path / "a.sqlite") if on_disk else MemoryStore()
    requests = [Request(magic=2**64 - due, comment="\ud800", price=float("inf")) for due in (300, 100, 100)]
    for due, request in zip((300, 100, 100), requests, strict=True):
        store.delay(due, request)
    in_order = [(100, requests[1]), (100, requests[2]), (300, requests[0])]
    assert waiting(store) == in_order
    ledger = Ledger(MarginMode.HEDGING, NoMoney())
    store.load(ledger)
    assert ledger.due(99) is None
    first = ledger.due(100)
    assert first is not None
    ledger.take_late(first)
    assert waiting(store) == in_order, "not yet written"
    store.commit(ledger.take_change(), ledger, 0)
    assert waiting(store) == in_order[1:]
    store.recall()
    assert waiting(store) == []
    store.close()


def test_a_late_price_that_is_no_number_is_kept_as_it_came(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.sqlite")
    store.delay(1, Request(price=float("nan")))
    [(_, request)] = waiting(store)
    assert request.price != request.price
    store.close()


@pytest.mark.parametrize(
    "damage", ["request = '[{'", 'request = \'{"action": "x"}\'', "due_msc = 'soon'", "request = NULL"]
)
def test_a_damaged_late_order_is_told_and_the_file_set_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.sqlite"
    store = Store(path)
    store.delay(1, Request())
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE late SET {damage}")  # noqa: S608 - the test's own
    db.close()
    with pytest.raises(PaperStateError, match="on its way"):
        waiting(store)
    assert not path.exists()


def test_a_file_of_before_there_were_late_orders_opens(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE late")
    db.close()
    reader = Store(path, read_only=True)
    assert waiting(reader) == []
    reader.close()
    store = Store(path)
    store.delay(1, Request())
    assert len(waiting(store)) == 1
    store.close()


def test_an_order_that_ends_at_the_last_of_days_is_there_after_a_restart(tmp_path: Path) -> None:
    begin(tmp_path, server_timezone="EET")
    for kind in (mt5.ORDER_TIME_SPECIFIED, mt5.ORDER_TIME_SPECIFIED_DAY):
        sent = mt5.order_send({**PENDING, "type_time": kind, "expiration": 2**63 - 1, "comment": "\ud800"})
        assert sent.retcode == mt5.TRADE_RETCODE_DONE
    for _ in range(2):
        shown = [(order.time_expiration, order.comment) for order in mt5.orders_get()]
        assert shown == [(2**63 - 1, "\ud800")] * 2
        assert mt5.initialize()
    mt5.uninstall()
