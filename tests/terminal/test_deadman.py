"""What a host does by itself, on the paper terminal in this process; its time is the test's."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from support.paper import ALWAYS, buy, pending, sell

import mt5_bridge.simulator as mt5
from mt5_bridge.core.deadman import Report
from mt5_bridge.core.intent import magic_base
from mt5_bridge.simulator import MarketControl
from mt5_bridge.terminal.deadman import ACT_S, DeadMan
from mt5_bridge.terminal.frames import Failure, HostError
from mt5_bridge.terminal.host_lock import HostLock
from mt5_bridge.terminal.host_ops import Host
from mt5_bridge.terminal.raw import DeadManArgs

OURS = 235 << 32 | 7
CONNECT = [None, None, None, None, 1000, False]


class Bench:
    """A host that is logged in, and its account."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.market: MarketControl = mt5.install(clock="manual", **settings)
        self.host = Host(mt5)
        self.host.connect(CONNECT)
        assert mt5.symbol_select("EURUSD")
        self.market.tick("EURUSD", 1.1, 1.1001)
        self.slept: list[float] = []
        self.meanwhile: list[Callable[[], None]] = []

    def act(
        self, action: Literal["cancel", "flatten"] = "flatten", scope: str = "all", lock: HostLock | None = None
    ) -> Report:
        args = DeadManArgs(action, 30.0, scope, 235, str(self.folder))
        dead_man = DeadMan(
            self.host,
            args,
            lock,
            monotonic=lambda: self.market.now() / 1000,
            sleep=self._sleep,
            now_ms=self.market.now,
        )
        return dead_man.act("the test wants it")

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.meanwhile:
            self.meanwhile.pop(0)()
        self.market.advance(seconds)

    def written(self) -> dict[str, Any]:
        """The report in the folder."""
        (path,) = self.folder.iterdir()
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found


Start = Callable[..., Bench]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    yield lambda **settings: Bench(tmp_path, **settings)
    mt5.uninstall()


def closes() -> list[Any]:
    return [deal for deal in mt5.history_deals_get(*ALWAYS) if deal.entry == mt5.DEAL_ENTRY_OUT]


def test_flatten_cancels_and_closes_all_and_looks_three_times(start: Start) -> None:
    bench = start()
    positions = [buy(0.1, magic=OURS).order, sell(0.2).order]
    order = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.05, magic=OURS).order
    report = bench.act()
    assert (mt5.positions_get(), mt5.orders_get()) == ((), ())
    assert (report.cancelled, sorted(report.closed), report.left) == ([order], sorted(positions), {})
    assert report.detail == ""
    assert [act.request.position for act in report.acts] == [0, positions[1], positions[0]], "the largest risk first"
    assert {magic_base(deal.magic) for deal in closes()} == {235}
    assert [deal.comment for deal in closes()] == ["dead man's switch"] * 2
    assert len({act.magic for act in report.acts}) == 3
    assert bench.slept[-3:] == [0.05] * 3
    assert bench.written()["closed"] == report.closed
    assert bench.written()["ended_msc"] == report.ended_msc


def test_cancel_leaves_positions_alone(start: Start) -> None:
    bench = start()
    buy(0.1, magic=OURS)
    order = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.05, magic=OURS).order
    report = bench.act("cancel")
    assert (len(mt5.positions_get()), mt5.orders_get()) == (1, ())
    assert (report.cancelled, report.closed, report.left) == ([order], [], {})


def test_an_account_that_is_flat_is_only_looked_at(start: Start) -> None:
    report = start().act()
    assert (report.acts, report.left, report.detail) == ([], {}, "")


def test_what_is_not_ours_stays(start: Start) -> None:
    bench = start()
    buy(0.1, magic=OURS)
    theirs = buy(0.2, magic=7).order
    pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.05, magic=OURS)
    other = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.05, magic=7).order
    bench.act(scope="mine")
    assert [p.ticket for p in mt5.positions_get()] == [theirs]
    assert [o.ticket for o in mt5.orders_get()] == [other]


def test_on_netting_what_is_ours_is_the_sum_of_our_deals(start: Start) -> None:
    bench = start(margin_mode="netting")
    buy(0.3, magic=OURS)
    buy(0.5, magic=7)
    sell(0.1, magic=OURS)
    bench.act(scope="mine")
    assert [round(p.volume, 2) for p in mt5.positions_get()] == [0.5]
    bench.act(scope="all")
    assert mt5.positions_get() == ()


def test_a_position_beyond_the_largest_order_goes_in_parts(start: Start) -> None:
    bench = start(margin_mode="netting", balance=10_000_000, symbols={"EURUSD": {"volume_max": 1.0}})
    for _ in range(3):
        buy(1.0)
    report = bench.act()
    assert mt5.positions_get() == ()
    assert [act.request.volume for act in report.acts] == [1.0] * 3


def test_requotes_are_tried_again_with_growing_pauses(start: Start) -> None:
    bench = start()
    position = buy(0.1).order
    mt5.inject(kind="requote", times=4)
    report = bench.act()
    assert report.closed == [position]
    assert [act.answer and act.answer.retcode for act in report.acts] == [10004] * 4 + [10009]
    pauses = [later.at_msc - act.at_msc for act, later in zip(report.acts, report.acts[1:], strict=False)]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 1600


@pytest.mark.parametrize("kind", ["executed_then_none", "executed_then_timeout", "bare_done"])
def test_a_close_whose_answer_is_lost_is_not_sent_again_when_it_was_done(start: Start, kind: str) -> None:
    bench = start()
    position = buy(0.1).order
    mt5.inject(kind=kind, nth=1)
    report = bench.act()
    assert (report.closed, len(report.acts), len(closes())) == ([position], 1, 1)


@pytest.mark.parametrize("lag", [0.3, 3.0])
def test_positions_that_lag_are_not_closed_twice(start: Start, lag: float) -> None:
    """Of a hedging account a close names its ticket: at worst the second is refused."""
    bench = start()
    position = buy(0.1).order
    mt5.inject(kind="positions_lag", nth=1, seconds=lag)
    report = bench.act()
    assert (report.closed, len(closes())) == ([position], 1)


@pytest.mark.parametrize("kind", ["timeout", "server_error", "none"])
def test_an_unknown_close_is_sent_again_after_half_a_second(start: Start, kind: str) -> None:
    bench = start()
    position = buy(0.1).order
    mt5.inject(kind=kind, nth=1)
    report = bench.act()
    first, second = report.acts
    assert (report.closed, len(closes())) == ([position], 1)
    assert second.at_msc - first.at_msc >= 500


def test_an_unknown_close_that_begins_to_show_settles_anew(start: Start) -> None:
    bench = start()
    position = buy(0.4).order
    mt5.inject(kind="timeout", nth=1)
    bench.meanwhile = [lambda: None, lambda: None, lambda: sell(0.1, position=position)]  # at the third pause
    first, second = bench.act().acts
    assert second.request.volume == pytest.approx(0.3)
    assert second.at_msc - first.at_msc >= 900, "half a second after the read that showed a change"


def test_an_unknown_close_whose_order_is_alive_is_waited_for(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = start()
    buy(0.1)
    mt5.inject(kind="timeout", nth=1)
    until = bench.market.now() + 3000
    alive: list[Any] = []
    orders, send = bench.host.orders, bench.host.send

    def shown(symbol: str | None, ticket: int | None) -> Any:
        return alive if bench.market.now() < until else orders(symbol, ticket)

    def noted(login: int | None, server: str | None, request: dict[str, Any], expiration_s: int) -> Any:
        if request["deed"] == "deal":
            alive[:] = [(1, "EURUSD", 1, 1, 0.1, 0.1, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, request["magic"], "", 0, 0)]
        return send(login, server, request, expiration_s)

    monkeypatch.setattr(bench.host, "orders", shown)
    monkeypatch.setattr(bench.host, "send", noted)
    _, second = [act for act in bench.act().acts if act.request.position]
    assert second.at_msc >= until


def test_a_close_that_fills_late_is_waited_for(start: Start) -> None:
    bench = start(margin_mode="netting")
    buy(0.1)
    mt5.inject(kind="late_fill", nth=1, seconds=0.4)
    bench.act()
    assert mt5.positions_get() == (), "a second close would have opened the opposite position"


def test_a_partial_fill_leaves_a_rest_that_goes_as_well(start: Start) -> None:
    bench = start()
    buy(0.4)
    mt5.inject(kind="partial_fill", nth=1, share=0.5)
    report = bench.act()
    assert mt5.positions_get() == ()
    assert [act.request.volume for act in report.acts] == [0.4, 0.2]


def test_after_a_minute_the_report_says_what_is_left(start: Start) -> None:
    bench = start()
    position = buy(0.1).order
    mt5.inject(kind="retcode", retcode=10018)
    began = bench.market.now()
    report = bench.act()
    assert ACT_S <= (bench.market.now() - began) / 1000 < ACT_S + 5
    assert report.left == {position: "Market is closed (10018)"}
    assert report.ended_msc
    assert report.detail == f"{position}: Market is closed (10018)"


def test_one_symbol_that_cannot_be_had_keeps_none_other(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = start()
    assert mt5.symbol_select("GBPUSD")
    bench.market.tick("GBPUSD", 1.3, 1.3001)
    stuck = mt5.order_send({"action": 1, "symbol": "GBPUSD", "type": 0, "volume": 1.0}).order
    buy(0.1)
    pick = bench.host._pick

    def refused(name: str) -> Any:
        if name == "GBPUSD":
            raise HostError(Failure("terminal", -4, "symbol_info GBPUSD: Not found (-4)"))
        return pick(name)

    monkeypatch.setattr(bench.host, "_pick", refused)
    report = bench.act()
    assert [p.ticket for p in mt5.positions_get()] == [stuck]
    assert report.left == {stuck: "symbol_info GBPUSD: Not found (-4)"}
    assert not any(act.sent for act in report.acts if act.request.position == stuck)


def test_a_terminal_that_restarts_is_connected_anew(start: Start) -> None:
    bench = start()
    position = buy(0.1).order
    mt5.inject(kind="terminal_restart", function="positions_get", nth=1, seconds=5)
    report = bench.act()
    assert report.closed == [position]
    assert report.fault == ""


def test_a_refused_login_is_not_tried_again(start: Start) -> None:
    bench = start()
    buy(0.1)
    mt5.inject(kind="terminal_restart", function="positions_get", nth=1, seconds=120, code=-6)
    seen: list[int] = []
    connect = bench.host.connect

    def counted(raw: list[Any]) -> Any:
        seen.append(1)
        return connect(raw)

    bench.host.connect = counted  # type: ignore[method-assign]  # how often it is asked is what matters
    report = bench.act()
    assert len(seen) == 1
    assert report.fault
    assert report.ended_msc


def test_nothing_is_sent_to_another_account(start: Start) -> None:
    bench = start()
    buy(0.1)
    mt5.inject(kind="account_swap", function="account_info", nth=1)
    report = bench.act()
    assert report.acts == []
    assert "logged in to" in report.fault
    mt5.clear_faults()
    assert len(mt5.positions_get()) == 1


def test_another_account_after_a_reconnect_is_left_alone(start: Start) -> None:
    bench = start()
    buy(0.1)
    mt5.inject(kind="terminal_restart", function="positions_get", nth=1, seconds=0.1)
    mt5.inject(kind="account_swap", function="initialize", times=9)
    report = bench.act()
    assert report.acts == []
    assert "logged in to" in report.fault
    with pytest.raises(HostError):
        bench.host.account()


def test_what_a_terminal_without_its_server_shows_is_not_flat(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = start()
    ticket = buy().order
    shown, info = mt5.positions_get, mt5.terminal_info
    blind = True
    monkeypatch.setattr(mt5, "positions_get", lambda **asked: () if blind else shown(**asked))
    monkeypatch.setattr(mt5, "terminal_info", lambda: SimpleNamespace(**{**info()._asdict(), "connected": not blind}))

    def sees() -> None:
        nonlocal blind
        blind = False

    bench.meanwhile = [lambda: None] * 5 + [sees]
    assert bench.act().closed == [ticket]


def test_a_send_is_in_the_report_before_it_happens(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host may be killed in the midst of it: the next bridge looks up what is there."""
    bench, told = start(), list[tuple[int, Any]]()
    buy()
    send = mt5.order_send

    def noted(request: dict[str, Any]) -> Any:
        told.append((request["magic"], [(act["magic"], act.get("answer")) for act in bench.written()["acts"]]))
        return send(request)

    monkeypatch.setattr(mt5, "order_send", noted)
    bench.act()
    assert [acts for _, acts in told] == [[(magic, None)] for magic, _ in told]


def test_a_defect_of_the_terminals_module_does_not_end_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = start()
    position = buy(0.1).order
    orders, left = bench.host.orders, [1, 1]

    def broken(symbol: str | None, ticket: int | None) -> Any:
        if left:
            left.pop()
            raise RuntimeError("a defect")
        return orders(symbol, ticket)

    monkeypatch.setattr(bench.host, "orders", broken)
    assert bench.act().closed == [position]


def test_a_folder_that_cannot_be_written_stops_nothing(start: Start, tmp_path: Path) -> None:
    bench = start()
    buy(0.1)
    bench.folder = tmp_path / "gone"
    assert len(bench.act().closed) == 1
    assert mt5.positions_get() == ()


def test_a_pending_that_fills_meanwhile_is_closed_and_not_said_to_be_cancelled(start: Start) -> None:
    bench = start()
    order = pending(mt5.ORDER_TYPE_BUY_LIMIT, 1.05, magic=OURS).order
    mt5.inject(kind="none", nth=1)
    bench.meanwhile.append(lambda: bench.market.tick("EURUSD", 1.04, 1.0401))
    report = bench.act()
    assert (report.cancelled, report.closed) == ([], [order])


def test_every_step_is_told_to_the_lock(start: Start, tmp_path: Path) -> None:
    bench = start()
    buy(0.1)
    place = tmp_path / "lock"
    lock = HostLock(place / "host.lock")
    lock.take(0.0)
    bench.folder = tmp_path / "reports"
    bench.folder.mkdir()
    try:
        bench.act(lock=lock)
        _, patience, steps = (place / "host.lock").read_text().split()
    finally:
        lock.release()
    assert patience == "10"
    assert int(steps) >= 5


def test_each_send_is_a_step_of_its_own(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several that take their time each must not look like one that hangs."""
    bench = start()
    buy(0.1), buy(0.2), buy(0.3)
    place = tmp_path / "lock"
    lock, seen, send = HostLock(place / "host.lock"), list[str](), mt5.order_send

    def noted(request: dict[str, Any]) -> Any:
        seen.append((place / "host.lock").read_text())
        return send(request)

    monkeypatch.setattr(mt5, "order_send", noted)
    lock.take(0.0)
    bench.folder = tmp_path / "reports"
    bench.folder.mkdir()
    try:
        bench.act(lock=lock)
    finally:
        lock.release()
    assert len(set(seen)) == len(seen) == 3
