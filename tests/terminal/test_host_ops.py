import math
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from support.fresh_fake import fresh_fake

from mt5_bridge.core.model import Deed, OrderRequest, OrderType
from mt5_bridge.terminal.frames import HostError
from mt5_bridge.terminal.host_ops import Host
from mt5_bridge.terminal.raw import ConnectArgs, RawFacts, RawPoll, RawSnapshot


def ask(host: Host, op: str, *args: Any, kind: Any = Any) -> Any:
    """As the daemon asks: arguments and result cross msgpack."""
    crossed = msgspec.msgpack.decode(msgspec.msgpack.encode(args))
    return msgspec.msgpack.decode(msgspec.msgpack.encode(host.perform(op, crossed)), type=kind)


def refused(host: Host, op: str, *args: Any) -> HostError:
    with pytest.raises(HostError) as caught:
        ask(host, op, *args)
    return caught.value


def connect(login: int | None = None, **more: Any) -> ConnectArgs:
    fields = {"path": None, "password": "secret", "server": None, "timeout_ms": 1000, "portable": False} | more
    return ConnectArgs(login=login, **fields)


DEAL = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, price=1.1)


def test_connect_initializes_with_what_is_known() -> None:
    account = ask(Host(fresh_fake()), "connect", connect(77, path="C:/t.exe", server="S", portable=True))
    assert account[:2] == [77, "S"]


def test_connect_logs_in_where_another_account_is_open() -> None:
    assert ask(Host(fresh_fake(OPEN_LOGIN="5")), "connect", connect(77))[0] == 77
    assert ask(Host(fresh_fake(OPEN_LOGIN="5")), "connect", connect())[0] == 5


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ({"FAULT_initialize": "ok,-10003"}, "initialize"),
        ({"FAULT_account_info": "-10004"}, "account_info"),
        ({"OPEN_LOGIN": "5", "FAULT_login": "-6"}, "login"),
        ({"OPEN_LOGIN": "5", "FAULT_account_info": "ok,-10002"}, "account_info"),
    ],
)
def test_connect_says_what_failed(fault: dict[str, str], what: str) -> None:
    failure = refused(Host(fresh_fake(**fault)), "connect", connect(77)).failure
    assert failure.kind == "terminal"
    assert failure.text.startswith(what)
    assert str(failure.code) in failure.text


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("account", ()),
        ("terminal", ()),
        ("symbol", ("EURUSD",)),
        ("symbols", (None,)),
        ("symbols", ("*EUR*",)),
        ("symbol_names", ("*EUR*",)),
        ("tick", ("EURUSD",)),
        ("positions", (None, None)),
        ("positions", ("EURUSD", None)),
        ("orders", (None, 5)),
        ("history_orders", (0, 10, None, None)),
        ("history_deals", (0, 0, 5, None)),
        ("history_deals", (0, 0, None, 5)),
        ("calc_margin", (0, "EURUSD", 1.0, 1.1)),
        ("calc_profit", (0, "EURUSD", 1.0, 1.1, 1.2)),
        ("rates", ("EURUSD", 1, None, 3)),
        ("rates", ("EURUSD", 1, 1000, 3)),
        ("page", ("EURUSD", 0, 0, 0, 10, [["EURUSD", 0.00001, []], None, [], 0, 0, False])),
        ("ticks", ("EURUSD", 0, None, 10)),
        ("check", (DEAL, 0)),
    ],
)
def test_every_read_answers_or_fails_and_none_is_never_an_answer(op: str, args: tuple[Any, ...]) -> None:
    assert ask(Host(fresh_fake()), op, *args) is not None
    names = [
        "account_info", "terminal_info", "symbol_info", "symbols_get", "symbol_info_tick", "positions_get",
        "orders_get", "history_orders_get", "history_deals_get", "order_calc_margin", "order_calc_profit",
        "copy_rates", "copy_ticks_from", "order_check",
    ]  # fmt: skip
    broken = fresh_fake(**{f"FAULT_{name}": "-10001" for name in names})
    failure = refused(Host(broken), op, *args).failure
    assert (failure.kind, failure.code, failure.sent) == ("terminal", -10001, False)


def test_an_unselected_symbol_is_selected() -> None:
    module = fresh_fake()
    assert ask(Host(module), "symbol", "EURUSD")[-1] is True
    assert module._calls["symbol_select"] == 1


def test_a_symbol_that_cannot_be_selected() -> None:
    assert refused(Host(fresh_fake(FAULT_symbol_select="-1")), "symbol", "EURUSD").failure.code == -1


def test_a_snapshot_is_whole_or_nothing() -> None:
    assert isinstance(ask(Host(fresh_fake()), "snapshot", kind=RawSnapshot), RawSnapshot)
    assert refused(Host(fresh_fake(FAULT_orders_get="-1")), "snapshot").failure.code == -1


def test_facts_for_an_opening() -> None:
    facts = ask(Host(fresh_fake()), "facts", "EURUSD", 0, None, 1.0, kind=RawFacts)
    assert facts.margin == pytest.approx(facts.tick.ask * 1000)
    assert facts.profit == pytest.approx((1.0 - facts.tick.ask) * 100_000)
    facts = ask(Host(fresh_fake(FAULT_order_calc_margin="-1")), "facts", "EURUSD", 1, 1.2, None, kind=RawFacts)
    assert (facts.margin, facts.profit) == (None, None)
    facts = ask(Host(fresh_fake(TICKS="0")), "facts", "EURUSD", 1, None, 1.0, kind=RawFacts)
    assert (facts.margin, facts.profit, facts.tick.time_msc) == (None, None, 0)


def test_an_order_right_after_its_facts_does_not_read_the_symbols_rules_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("mt5_bridge.terminal.host_ops.time.monotonic", lambda: now[0])
    module = fresh_fake()
    host = Host(module)
    reads = module._calls

    def sends() -> int:
        """How often the rules were read for one order."""
        before = reads["symbol_info"]
        assert ask(host, "send", 1001, "Fake-Demo", DEAL, 0)[0] == 10009
        return int(reads["symbol_info"] - before)

    ask(host, "facts", "EURUSD", 0, None, 1.0)
    assert sends() == 0
    now[0] += 1.0
    assert sends() == 1, "a broker may change them"
    assert sends() == 0
    ask(host, "connect", connect())
    assert sends() == 1, "it may be another broker"


def test_an_order_goes_out_once_with_a_filling_the_broker_takes() -> None:
    module = fresh_fake(TAKES_FILLING="1")
    host = Host(module)
    request = msgspec.structs.replace(DEAL, price=0.0)
    answer = ask(host, "send", 1001, "Fake-Demo", request, 0)
    assert answer[0] == 10009
    (sent,) = module._sent
    assert sent["type_filling"] == 1
    assert sent["price"] == pytest.approx(1.10039)


def test_an_order_that_is_taken_back_is_not_sent() -> None:
    module = fresh_fake()
    host = Host(module)
    args = msgspec.to_builtins([1001, "Fake-Demo", DEAL, 0])
    with pytest.raises(HostError) as caught:
        host.perform("send", args, lambda: True)
    assert (caught.value.failure.kind, caught.value.failure.sent) == ("withdrawn", False)
    assert module._sent == []
    # Who asks the host itself, as the dead-man's switch does, is not bound by what another call was told.
    assert host.send(*args)[0] == 10009


def test_an_order_whose_answer_cannot_be_read_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fresh_fake()
    host = Host(module)
    monkeypatch.setattr(module, "order_send", lambda request: SimpleNamespace(retcode=10009))
    with pytest.raises(AttributeError):
        ask(host, "send", 1001, "Fake-Demo", DEAL, 0)
    assert host.sending


def test_a_small_deed_needs_no_symbol() -> None:
    module = fresh_fake()
    ask(Host(module), "send", None, None, OrderRequest(deed=Deed.REMOVE, order=5), 0)
    assert module._sent == [{"action": 8, "order": 5}]


@pytest.mark.parametrize(
    ("type_", "stands", "wanted", "sent"),
    [
        (0, 1.09, 1.0950, True),
        (0, 0.0, 1.0950, True),
        (0, 1.0950, 1.0950, False),
        (0, 1.0960, 1.0950, False),
        (1, 1.12, 1.11, True),
        (1, 1.10, 1.11, False),
    ],
)
def test_a_stop_that_may_only_come_nearer_is_held_against_the_one_that_stands(
    type_: int, stands: float, wanted: float, sent: bool
) -> None:
    """And the target of that moment goes with it: a person may have moved either meanwhile."""
    module = fresh_fake()
    module.positions_get = lambda ticket: (SimpleNamespace(ticket=ticket, type=type_, sl=stands, tp=1.3),)
    request = OrderRequest(
        deed=Deed.SLTP,
        symbol="EURUSD",
        type=OrderType(type_),
        position=5,
        stop_loss=wanted,
        take_profit=1.2,
        nearer_only=True,
        keeps_target=True,
    )
    answer = ask(Host(module), "send", None, None, request, 0)
    assert answer[0] == (10009 if sent else 10025)
    assert [(order["sl"], order["tp"]) for order in module._sent] == ([(wanted, 1.3)] if sent else [])
    module._sent.clear()
    turned = msgspec.structs.replace(request, type=OrderType(1 - type_))
    assert ask(Host(module), "send", None, None, turned, 0)[0] == 10036, "worked out for the other side"
    assert module._sent == []


@pytest.mark.parametrize(
    ("keeps", "sent"),
    [
        ({"keeps_stop": True}, (1.0955, 1.2)),
        ({"keeps_target": True}, (1.0950, 1.3)),
        ({"keeps_stop": True, "keeps_target": True}, None),
        ({"nearer_only": True}, (1.0955, 1.2)),
        ({}, (1.0950, 1.2)),
    ],
)
def test_what_a_request_does_not_name_stays_as_it_is_by_then(
    keeps: dict[str, Any], sent: tuple[float, float] | None
) -> None:
    module = fresh_fake()
    module.positions_get = lambda ticket: (SimpleNamespace(ticket=ticket, type=0, sl=1.0955, tp=1.3),)
    request = OrderRequest(deed=Deed.SLTP, symbol="EURUSD", position=5, stop_loss=1.0950, take_profit=1.2, **keeps)
    assert ask(Host(module), "send", None, None, request, 0)[0] == (10025 if sent is None else 10009)
    assert [(order["sl"], order["tp"]) for order in module._sent] == ([] if sent is None else [sent])


def test_a_stop_of_a_position_that_is_gone_or_cannot_be_read() -> None:
    request = OrderRequest(deed=Deed.SLTP, symbol="EURUSD", position=5, stop_loss=1.1, nearer_only=True)
    module = fresh_fake()
    module.positions_get = lambda ticket: ()
    assert ask(Host(module), "send", None, None, request, 0)[0] == 10036
    assert module._sent == [], "nothing is sent blindly"
    module = fresh_fake(FAULT_positions_get="-10001")
    failure = refused(Host(module), "send", None, None, request, 0).failure
    assert (failure.code, failure.sent, module._sent) == (-10001, False, [])


def test_a_refused_filling_is_forgotten() -> None:
    module = fresh_fake(RETCODE="10030")
    host = Host(module)
    ask(host, "send", None, None, DEAL, 0)
    ask(host, "send", None, None, DEAL, 0)
    assert module._calls["order_check"] == 2


@pytest.mark.parametrize(("login", "server"), [(2002, None), (1001, "Other"), (2002, "Fake-Demo")])
def test_nothing_is_sent_to_another_account(login: int, server: str | None) -> None:
    module = fresh_fake()
    failure = refused(Host(module), "send", login, server, DEAL, 0).failure
    assert (failure.kind, failure.sent) == ("mismatch", False)
    assert "1001" in failure.text
    assert not module._sent


@pytest.mark.parametrize("op", [("account",), ("snapshot",), ("facts", "EURUSD", 0, None, None)])
def test_what_another_account_shows_is_not_believed(op: tuple[Any, ...]) -> None:
    module = fresh_fake()
    host = Host(module)
    ask(host, "connect", connect())
    ask(host, *op)
    assert module.login(2002)  # a person, in the terminal's window
    failure = refused(host, *op).failure
    assert failure.kind == "mismatch"
    assert "2002" in failure.text


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        ({"FAULT_account_info": "-10001"}, False),
        ({"FAULT_symbol_info": "-10001"}, False),
        ({"FAULT_order_send": "-10001"}, True),
        ({"FAULT_order_send": "-10005"}, True),
    ],
)
def test_a_failure_says_whether_order_send_was_called(fault: dict[str, str], sent: bool) -> None:
    assert refused(Host(fresh_fake(**fault)), "send", 1001, None, DEAL, 0).failure.sent is sent


def test_a_poll_crosses_the_pipe() -> None:
    poll = ask(Host(fresh_fake()), "poll", [("EURUSD", None, 0), ("NOSUCH", 0, 0)], 1e6, 100, 0, kind=RawPoll)
    assert poll.blocks[0].count == 2
    assert math.isclose(poll.quotes["EURUSD"].bid, 1.10029)
    assert "NOSUCH" in poll.faults


def test_an_unknown_operation_is_refused() -> None:
    assert refused(Host(fresh_fake()), "order_send").failure.kind == "validation"


def test_shutdown_closes_the_terminals_pipe() -> None:
    Host(fresh_fake()).shutdown()
