from types import SimpleNamespace
from typing import Any

import pytest

from mt5_bridge.core.model import Deed, Execution, Filling, OrderRequest, OrderType
from mt5_bridge.terminal.host_orders import FillingCache, build, fillings, wants_filling, wants_price

INFO = SimpleNamespace(digits=5, expiration_mode=15, trade_exemode=2, filling_mode=3)
TICK = SimpleNamespace(bid=1.1, ask=1.10012)


def test_a_market_order_has_strict_types_and_only_its_fields() -> None:
    request = OrderRequest(
        deed=Deed.DEAL, symbol="EURUSD", type=OrderType.SELL, volume=1, stop_loss=1.123456789, magic=7, comment="x"
    )
    assert wants_price(request)
    assert wants_filling(request)
    order = build(request, INFO, TICK, 0)
    assert order == {
        "action": 1,
        "symbol": "EURUSD",
        "magic": 7,
        "comment": "x",
        "type": 1,
        "volume": 1.0,
        "price": 1.1,
        "sl": 1.12346,
        "deviation": 0,
    }
    assert {k: type(v) for k, v in order.items() if k in ("volume", "price", "sl")} == dict.fromkeys(
        ("volume", "price", "sl"), float
    )
    assert all(type(order[k]) is int for k in ("action", "type", "deviation", "magic"))


def test_a_close_names_its_position_and_keeps_a_given_filling_and_price() -> None:
    request = OrderRequest(
        deed=Deed.DEAL, symbol="EURUSD", volume=0.1, price=1.2, position=5, filling=Filling.IOC, deviation_points=20
    )
    assert not wants_price(request)
    assert not wants_filling(request)
    order = build(request, INFO, None, 0)
    assert (order["position"], order["price"], order["type_filling"], order["deviation"]) == (5, 1.2, 1, 20)


@pytest.mark.parametrize(("modes", "seconds", "time"), [(15, 0, 0), (2, 0, 1), (3, 0, 0), (15, 1234, 2)])
def test_a_pending_order_waits_as_the_symbol_allows(modes: int, seconds: int, time: int) -> None:
    request = OrderRequest(
        deed=Deed.PENDING,
        symbol="EURUSD",
        type=OrderType.BUY_STOP_LIMIT,
        volume=0.1,
        price=1.2,
        stop_limit_price=1.19,
        take_profit=1.3,
    )
    order = build(request, SimpleNamespace(digits=5, expiration_mode=modes), None, seconds)
    assert (order["action"], order["type"], order["type_filling"]) == (5, 6, 2)
    assert (order["price"], order["stoplimit"], order["tp"], order["type_time"]) == (1.2, 1.19, 1.3, time)
    assert order.get("expiration") == (seconds or None)
    assert "sl" not in order


def test_the_small_deeds() -> None:
    assert build(OrderRequest(deed=Deed.SLTP, symbol="EURUSD", position=5, stop_loss=1.1), INFO, None, 0) == {
        "action": 6,
        "symbol": "EURUSD",
        "position": 5,
        "sl": 1.1,
        "tp": 0.0,
    }
    assert build(OrderRequest(deed=Deed.MODIFY, order=5, price=1.2), None, None, 0) == {
        "action": 7,
        "order": 5,
        "price": 1.2,
        "type_time": 0,
    }
    assert build(OrderRequest(deed=Deed.REMOVE, order=5), None, None, 0) == {"action": 8, "order": 5}
    assert build(OrderRequest(deed=Deed.CLOSE_BY, position=5, position_by=6), None, None, 0) == {
        "action": 10,
        "position": 5,
        "position_by": 6,
    }


@pytest.mark.parametrize(
    ("execution", "bits", "expected"),
    [
        (Execution.MARKET, 1, [Filling.FOK]),
        (Execution.MARKET, 2, [Filling.IOC]),
        (Execution.MARKET, 3, [Filling.FOK, Filling.IOC]),
        (Execution.MARKET, 0, [Filling.FOK, Filling.IOC, Filling.RETURN]),
        (Execution.EXCHANGE, 2, [Filling.IOC, Filling.RETURN]),
        (Execution.EXCHANGE, 0, [Filling.RETURN]),
        (Execution.INSTANT, 0, [Filling.FOK, Filling.IOC, Filling.RETURN]),
        (Execution.REQUEST, 1, [Filling.FOK, Filling.IOC, Filling.RETURN]),
    ],
)
def test_fillings_by_execution(execution: Execution, bits: int, expected: list[Filling]) -> None:
    assert fillings(execution, bits) == expected


class Checker:
    def __init__(self, *retcodes: int | None) -> None:
        self.retcodes = list(retcodes)
        self.asked: list[int] = []

    def __call__(self, order: dict[str, Any]) -> Any:
        self.asked.append(order["type_filling"])
        retcode = self.retcodes.pop(0)
        return None if retcode is None else SimpleNamespace(retcode=retcode)


ORDER = {"symbol": "EURUSD"}


def test_a_filling_is_confirmed_once_and_remembered() -> None:
    cache, check = FillingCache(), Checker(10030, 0)
    assert cache.choose(ORDER, INFO, check) == Filling.IOC
    assert cache.choose(ORDER, INFO, check) == Filling.IOC
    assert check.asked == [Filling.FOK, Filling.IOC]
    cache.forget("EURUSD")
    check.retcodes = [0]
    assert cache.choose(ORDER, INFO, check) == Filling.FOK
    cache.clear()
    check.retcodes = [0]
    assert cache.choose(ORDER, INFO, check) == Filling.FOK


@pytest.mark.parametrize("answer", [None, 10019])
def test_an_answer_about_something_else_is_not_remembered(answer: int | None) -> None:
    cache, check = FillingCache(), Checker(answer, 0)
    assert cache.choose(ORDER, INFO, check) == Filling.FOK
    assert cache.choose(ORDER, INFO, check) == Filling.FOK
    assert len(check.asked) == 2


def test_a_misreporting_broker_gets_all_tried_then_the_best_guess() -> None:
    check = Checker(10030, 10030, 10030)
    assert FillingCache().choose(ORDER, SimpleNamespace(trade_exemode=2, filling_mode=2), check) == Filling.IOC
    assert check.asked == [Filling.IOC, Filling.FOK, Filling.RETURN]
