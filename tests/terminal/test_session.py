"""The port's contract, through real frames, against the paper terminal and the fake one."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from support.cursors import cursor_after
from support.eventually import eventually
from support.fresh_fake import FAKE_PATH

from mt5_bridge.core.errors import (
    MT5AuthError,
    MT5CircuitBreakerOpen,
    MT5ConnectionError,
    MT5DataError,
    MT5InitError,
    MT5StateError,
    MT5TimeoutError,
    MT5ValidationError,
)
from mt5_bridge.core.intent import Verdict
from mt5_bridge.core.model import Cursor, Deed, OrderRequest, OrderType, Side
from mt5_bridge.core.ticks import Label
from mt5_bridge.redpanda.batch import stored
from mt5_bridge.terminal import convert
from mt5_bridge.terminal.breaker import BreakerState
from mt5_bridge.terminal.client import HostClient
from mt5_bridge.terminal.clock import BrokerClock, Segment
from mt5_bridge.terminal.config import TerminalConfig
from mt5_bridge.terminal.port import Priority, TerminalState
from mt5_bridge.terminal.probe import probe
from mt5_bridge.terminal.retcodes import classify
from mt5_bridge.terminal.session import MT5SessionManager

MAGIC = 235 << 32 | 7
BUY = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.1, magic=MAGIC, comment="test")


def fake(**settings: str) -> MT5SessionManager:
    return MT5SessionManager(TerminalConfig(backend="fake_mt5", settings=settings, python_path=(FAKE_PATH,)))


def paper(folder: Path | None = None, **settings: str) -> MT5SessionManager:
    known = {"PAPER_SPEED": "50", "PAPER_SEED": "1"} | settings
    return MT5SessionManager(
        TerminalConfig(backend="paper", settings=known | ({"DATA_DIR": str(folder)} if folder else {}))
    )


@pytest.fixture(params=["paper", "fake"])
async def mt5(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MT5SessionManager]:
    async with paper(tmp_path) if request.param == "paper" else fake() as session:
        yield session


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
async def test_a_paper_server_with_summer_time_is_read_by_its_zone(tmp_path: Path, zone: str) -> None:
    async with paper(tmp_path, PAPER_SERVER_TIMEZONE=zone) as session:
        assert session.clock.timezone == zone
        await session.get_symbol("AUDUSD")
        price = await session.get_price("AUDUSD")
        assert abs(price.time_msc - time.time() * 1000) < 60_000


async def test_a_host_started_ahead_is_the_one_that_is_opened(tmp_path: Path) -> None:
    session = paper(tmp_path)
    await session.warm_up()
    pid = session.host_pid
    assert session.state is TerminalState.DISCONNECTED
    await session.connect(max_wait=30)
    try:
        assert session.host_pid == pid
        assert session.stats.host_starts == 1
    finally:
        await session.disconnect()


async def test_a_host_started_ahead_that_died_is_replaced() -> None:
    session = fake()
    await session.warm_up()
    session.kill_host("test")
    async with session:
        assert session.stats.host_starts == 2
    await session.warm_up()
    await session.disconnect()
    assert session.host_pid is None, "never connected, and gone all the same"


async def test_what_cannot_be_imported_ahead_is_told_by_connect() -> None:
    session = MT5SessionManager(TerminalConfig(backend="no_such_terminal"))
    await session.warm_up()
    with pytest.raises(MT5InitError, match="no_such_terminal"):
        await session.connect(max_wait=30)
    await session.disconnect()


async def test_a_host_that_cannot_be_started_ahead_is_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    session = fake()
    with monkeypatch.context() as full:
        full.setattr("sys.executable", "/no/such/python")
        await session.warm_up()
    async with session:
        assert session.stats.host_starts == 1


async def test_account_and_terminal(mt5: MT5SessionManager) -> None:
    account = await mt5.get_account_info()
    assert account.currency == "USD"
    assert account.balance == 10_000.0
    assert (await mt5.get_terminal_info()).connected


async def test_symbols(mt5: MT5SessionManager) -> None:
    symbol = await mt5.get_symbol("EURUSD")
    assert (symbol.digits, symbol.contract_size, symbol.selected) == (5, 100_000.0, True)
    assert "EURUSD" in {s.name for s in await mt5.get_symbols()}
    assert {s.name for s in await mt5.get_symbols("*EUR*")} >= {"EURUSD"}
    assert await mt5.resolve_symbol("EURUSD") == "EURUSD"
    for call in (mt5.get_symbol("NOSUCH"), mt5.resolve_symbol("NOSUCH")):
        with pytest.raises(MT5DataError) as caught:
            await call
        assert caught.value.code == -4


async def test_prices_and_facts(mt5: MT5SessionManager) -> None:
    quote = await mt5.get_price("EURUSD")
    assert 0 < quote.bid < quote.ask
    stop = round(quote.bid - 0.01, 5)
    facts = await mt5.quote_for_order("EURUSD", Side.BUY, None, stop)
    assert facts.symbol_info.name == facts.quote.symbol == "EURUSD"
    assert facts.loss_per_lot == pytest.approx(1000.0, rel=0.1)
    assert facts.margin_per_lot == pytest.approx(facts.quote.ask * 1000, rel=0.01)
    assert (await mt5.quote_for_order("EURUSD", Side.SELL)).loss_per_lot is None
    assert await mt5.calc_margin(Side.BUY, "EURUSD", 1, quote.ask) == pytest.approx(quote.ask * 1000)
    assert await mt5.calc_profit(Side.SELL, "EURUSD", 1, 1.1, 1.2) == pytest.approx(-10_000.0)


async def test_an_empty_account_is_an_empty_list(mt5: MT5SessionManager) -> None:
    assert await mt5.get_positions() == []
    assert await mt5.get_positions("EURUSD") == []
    assert await mt5.get_positions(ticket=1) == []
    assert await mt5.get_orders() == []
    assert await mt5.get_orders(ticket=1) == []
    assert await mt5.get_history_orders(ticket=1) == []
    assert await mt5.get_history_deals(position=99) == []
    snapshot = await mt5.snapshot()
    assert (snapshot.positions, snapshot.orders) == ([], [])
    with pytest.raises(MT5ValidationError, match="history needs"):
        await mt5.get_history_deals()


async def test_an_order_is_sent_as_typed(mt5: MT5SessionManager) -> None:
    handed: list[bool] = []
    assert (await mt5.check_order(BUY)).retcode == 0
    result = await mt5.place_order(BUY, on_sent=lambda: handed.append(True))
    assert classify(result) is Verdict.DONE
    assert handed == [True]
    with pytest.raises(MT5ValidationError) as caught:
        await mt5.place_order(msgspec.structs.replace(BUY, price=float("nan")))
    assert not caught.value.sent


async def test_bars_and_ticks_of_the_past_come_from_the_other_host(mt5: MT5SessionManager) -> None:
    bars = await mt5.get_rates("EURUSD", "M1", 3)
    assert all(b.low <= b.open <= b.high for b in bars)
    assert mt5.stats.history_starts == 1
    account = await mt5.get_account_info()
    assert account.login


async def test_each_kind_of_call_has_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines: dict[str, float] = {}
    call = HostClient.call

    async def noted(client: HostClient, op: str, *args: Any, **options: Any) -> msgspec.Raw:
        deadlines.setdefault(op, options["timeout"])
        return await call(client, op, *args, **options)

    monkeypatch.setattr(HostClient, "call", noted)
    async with paper() as mt5:
        await mt5.snapshot()
        await mt5.get_account_info()
        await mt5.get_rates("EURUSD", "M1", 3)
        await mt5.place_order(BUY)
    assert (deadlines["connect"], deadlines["rates"]) == (120.0, 60.0)
    assert (deadlines["snapshot"], deadlines["account"], deadlines["send"]) == (5.0, 5.0, 30.0)


async def test_a_poll_begins_at_now(mt5: MT5SessionManager) -> None:
    await mt5.get_price("EURUSD")
    result = await mt5.poll_ticks({"EURUSD": None, "NOSUCH": None}, slice_ms=5000)
    assert result.blocks == {}
    assert result.cursors["EURUSD"].count >= 1
    assert "NOSUCH" in result.faults
    again = await mt5.poll_ticks(result.cursors)
    for block in again.blocks.values():
        assert block.symbol == "EURUSD"


async def test_a_probe(mt5: MT5SessionManager) -> None:
    result = await probe(mt5)
    assert (result.connection_ok, result.auth_ok, result.data_feed_ok) == (True, True, True)
    assert result.latency_ms is not None


async def test_a_trade_on_paper_from_opening_to_history(tmp_path: Path) -> None:
    async with paper(tmp_path) as mt5:
        begin = mt5._now_ms()
        opened = await mt5.place_order(BUY)
        (position,) = await mt5.get_positions()
        assert (position.magic, position.side, position.ticket) == (MAGIC, Side.BUY, opened.order)
        assert abs(position.time_msc - begin) < 10_000
        stops = OrderRequest(deed=Deed.SLTP, symbol="EURUSD", position=position.ticket, stop_loss=1.0)
        assert classify(await mt5.place_order(stops)) is Verdict.DONE
        assert classify(await mt5.place_order(stops)) is Verdict.NO_CHANGES
        pending = OrderRequest(
            deed=Deed.PENDING,
            symbol="EURUSD",
            type=OrderType.BUY_LIMIT,
            volume=0.1,
            price=1.0,
            magic=MAGIC,
            expiration_msc=begin + 86_400_000,
        )
        placed = await mt5.place_order(pending)
        (order,) = await mt5.get_orders()
        assert order.ticket == placed.order
        assert abs(order.expiration_msc - pending.expiration_msc) <= 1000
        assert classify(await mt5.place_order(OrderRequest(deed=Deed.REMOVE, order=order.ticket))) is Verdict.DONE
        close = msgspec.structs.replace(BUY, type=OrderType.SELL, position=position.ticket)
        assert classify(await mt5.place_order(close, priority=Priority.CRITICAL)) is Verdict.DONE
        assert await mt5.get_positions() == []
        deals = await mt5.get_history_deals(position=position.ticket)
        assert [d.side for d in deals] == [Side.BUY, Side.SELL]
        by_date = await mt5.get_history_deals(begin - 86_400_000, begin + 86_400_000)
        assert {d.ticket for d in deals} <= {d.ticket for d in by_date}
        assert await mt5.get_history_orders(begin - 86_400_000, begin + 86_400_000)


async def test_ticks_of_paper_are_read_without_gap_and_again_from_history(tmp_path: Path) -> None:
    async with paper(tmp_path) as mt5:
        await mt5.get_price("EURUSD")
        start = (await mt5.poll_ticks({"EURUSD": None})).cursors["EURUSD"]
        cursor = start
        times: list[tuple[int, int]] = []

        async def some() -> bool:
            nonlocal cursor
            result = await mt5.poll_ticks({"EURUSD": cursor})
            for block in result.blocks.values():
                times.extend(t[:2] for t in convert.ticks(block, mt5.clock, cursor.epoch))
                assert cursor_after(block) == result.cursors["EURUSD"]
            cursor = result.cursors.get("EURUSD", cursor)
            return len(times) >= 20

        await eventually(some, timeout=20.0)
        assert times == sorted(set(times))
        assert mt5.clock.offset_ms == 7_200_000
        past = await mt5.catch_up(Label("EURUSD", 0.00001), start, 20)
        records = [record for batch in past.batches for record in DefaultRecordBatch(bytes(stored(batch)))]
        assert [record.timestamp for record in records] == [time for time, _ in times[: len(records)]]
        assert past.ticks == past.count == len(records) > 0
        assert past.after.epoch == start.epoch
        assert past.newest_msc == records[-1].timestamp
        (whole,) = await mt5.get_ticks("EURUSD", times[0][0] - 1000, times[-1][0])
        assert whole.count >= 20
        assert await mt5.get_ticks("EURUSD", times[0][0], count=1)


async def test_the_wrong_account_is_never_traded_on() -> None:
    async with fake(SWITCH_AFTER="1") as mt5:
        with pytest.raises(MT5AuthError, match="9999") as caught:
            await mt5.place_order(BUY)
        assert not caught.value.sent
        # The account held on to is not the one that answers now: a person must look.
        await eventually(lambda: mt5.state is TerminalState.FAILED)
        assert "another account" in mt5.detail


@pytest.mark.parametrize(
    ("settings", "kind", "code"),
    [
        ({"FAULT_initialize": "-6"}, MT5AuthError, -6),
        ({"FAULT_initialize": "-7"}, MT5AuthError, -7),
        ({"FAULT_initialize": "-10003"}, MT5InitError, -10003),
        ({"FAULT_initialize": "-5"}, MT5InitError, -5),
        ({"REFUSE": "PAPER_SPEED: must be above 0"}, MT5InitError, None),
    ],
)
async def test_what_no_retry_mends_is_told_at_once(
    settings: dict[str, str], kind: type[MT5AuthError | MT5InitError], code: int | None
) -> None:
    mt5 = fake(**settings)
    with pytest.raises(kind) as caught:
        await mt5.connect()
    assert (caught.value.code, caught.value.retriable) == (code, False)
    assert mt5.state is TerminalState.FAILED
    assert mt5.stats.host_starts == 1
    await mt5.disconnect()


async def test_a_module_that_is_not_there() -> None:
    mt5 = MT5SessionManager(backend="no_such_terminal")
    with pytest.raises(MT5InitError, match="no_such_terminal"):
        await mt5.connect()


async def test_another_server_than_the_wanted_one() -> None:
    config = TerminalConfig(
        backend="fake_mt5", server="Mine", settings={"OPEN_SERVER": "Other"}, python_path=(FAKE_PATH,)
    )
    with pytest.raises(MT5AuthError, match="Other"):
        await MT5SessionManager(config).connect()


async def test_a_login_that_does_not_take() -> None:
    settings = {"OPEN_LOGIN": "5", "STUBBORN": "1"}
    config = TerminalConfig(backend="fake_mt5", login=7, settings=settings, python_path=(FAKE_PATH,))
    with pytest.raises(MT5AuthError, match="logged in to 5, not to 7"):
        await MT5SessionManager(config).connect()


async def test_a_terminal_that_is_not_there_yet_is_waited_for() -> None:
    mt5 = fake(FAULT_initialize="-10004,-10005,ok")
    seen: list[tuple[TerminalState, str]] = []
    mt5.on_state(lambda state, detail: seen.append((state, detail)))
    await mt5.connect()
    assert mt5.state is TerminalState.CONNECTED
    assert any("interactive login" in detail for _, detail in seen)
    assert mt5.stats.host_starts == 1
    await mt5.connect()
    await mt5.disconnect()
    assert mt5.detail == "closed"


async def test_waiting_for_a_terminal_can_be_bounded() -> None:
    mt5 = fake(FAULT_initialize="-10004")
    with pytest.raises(MT5ConnectionError):
        await mt5.connect(max_wait=0.2)
    assert mt5.state is TerminalState.DISCONNECTED
    with pytest.raises(MT5StateError):
        await mt5.get_account_info()


async def test_a_session_that_cannot_open_leaves_nothing() -> None:
    mt5 = fake(FAULT_initialize="-6")
    with pytest.raises(MT5AuthError):
        async with mt5:
            raise AssertionError("never entered")
    assert mt5.host_pid is None


async def test_a_killed_host_is_respawned_and_the_session_goes_on() -> None:
    async with fake() as mt5:
        pid, since = mt5.host_pid, mt5.since_msc
        mt5.kill_host("the test wants it")
        assert mt5.detail == "the test wants it"
        await eventually(lambda: mt5.state is TerminalState.CONNECTED)
        assert mt5.host_pid != pid
        assert mt5.since_msc >= since
        assert (await mt5.get_account_info()).login == 1001
        assert mt5.stats.reconnects == 1


async def test_a_broken_pipe_is_mended_by_initialize_in_the_same_host() -> None:
    async with fake(FAULT_positions_get="-10001,ok") as mt5:
        pid = mt5.host_pid
        with pytest.raises(MT5ConnectionError):
            await mt5.get_positions()
        await eventually(lambda: mt5.state is TerminalState.CONNECTED)
        assert await mt5.get_positions() == []
        assert mt5.host_pid == pid


async def test_an_updated_terminal_is_waited_for_but_a_refused_login_is_not() -> None:
    async with fake(FAULT_initialize="ok,-10003,ok", FAULT_positions_get="-10001,ok") as mt5:
        with pytest.raises(MT5ConnectionError):
            await mt5.get_positions()
        await eventually(lambda: mt5.state is TerminalState.CONNECTED)
    async with fake(FAULT_initialize="ok,-6,ok", FAULT_positions_get="-10001,ok") as mt5:
        with pytest.raises(MT5ConnectionError):
            await mt5.get_positions()
        await eventually(lambda: mt5.state is TerminalState.FAILED)
        with pytest.raises(MT5StateError, match="failed"):
            await mt5.get_positions()
        await mt5.reconnect(max_wait=5.0)
        assert await mt5.get_account_info()


async def test_a_hung_order_is_unknown_and_the_session_recovers() -> None:
    async with fake(FAULT_order_send="hang") as mt5:
        task = asyncio.create_task(mt5.place_order(BUY, timeout=0.3))
        await eventually(lambda: mt5.in_flight is not None and mt5.in_flight.op == "send")
        with pytest.raises(MT5TimeoutError) as caught:
            await task
        assert caught.value.sent
        await eventually(lambda: mt5.state is TerminalState.CONNECTED)


async def test_the_breaker_opens_lets_critical_calls_pass_and_closes_by_hand() -> None:
    config = TerminalConfig(
        backend="fake_mt5",
        settings={"FAULT_positions_get": "hang"},
        python_path=(FAKE_PATH,),
        breaker_threshold=1,
        breaker_cooldown=600.0,
    )
    async with MT5SessionManager(config) as mt5:
        with pytest.raises(MT5TimeoutError):
            await mt5.get_positions(timeout=0.1)
        await eventually(lambda: mt5.state is TerminalState.CONNECTED)
        with pytest.raises(MT5CircuitBreakerOpen, match="next try"):
            await mt5.get_account_info()
        assert mt5.stats.breaker_trips == 1
        with pytest.raises(MT5TimeoutError):
            await mt5.get_positions(priority=Priority.CRITICAL, timeout=0.1)
        await eventually(lambda: mt5.state is TerminalState.CONNECTED)
        assert mt5.breaker.state is BreakerState.OPEN
        await mt5.get_account_info(priority=Priority.CRITICAL)
        assert await mt5.get_account_info()
        mt5.breaker.failed(0.0)
        mt5.breaker.reset()
        assert await mt5.get_account_info()


async def test_a_cancelled_probe_leaves_the_breaker_open() -> None:
    async with fake(FAULT_positions_get="hang") as mt5:
        for _ in range(5):
            mt5.breaker.failed(mt5._link._monotonic())
        task = asyncio.create_task(mt5.get_positions(priority=Priority.CRITICAL))
        await eventually(lambda: mt5.in_flight is not None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert mt5.breaker.state is BreakerState.OPEN
        mt5.kill_host("done")


async def test_a_probe_that_waited_too_long_says_nothing() -> None:
    async with fake(FAULT_positions_get="hang") as mt5:
        hung = asyncio.create_task(mt5.get_positions(timeout=30.0))
        await eventually(lambda: mt5.in_flight is not None)
        with pytest.raises(MT5TimeoutError) as caught:
            await mt5.get_account_info(timeout=0.05)
        assert not caught.value.sent
        assert mt5.breaker.state is BreakerState.CLOSED
        mt5.kill_host("done")
        with pytest.raises(MT5ConnectionError):
            await hung


async def test_a_symbol_without_price_yet() -> None:
    async with fake(TICKS="0") as mt5:
        with pytest.raises(MT5DataError, match="no price yet"):
            await mt5.get_price("EURUSD")
        with pytest.raises(MT5DataError, match="no price yet"):
            await mt5.quote_for_order("EURUSD", Side.BUY)


async def test_suffixes_aliases_and_ambiguity() -> None:
    config = TerminalConfig(
        backend="fake_mt5",
        settings={"SYMBOLS": "EURUSD.m,GOLD.m,GBPUSD.a,GBPUSD.b"},
        aliases={"XAUUSD": "GOLD"},
        python_path=(FAKE_PATH,),
    )
    async with MT5SessionManager(config) as mt5:
        assert await mt5.resolve_symbol("EURUSD") == "EURUSD.m"
        assert await mt5.resolve_symbol("XAUUSD") == "GOLD.m"
        calls = mt5.stats.calls
        assert await mt5.resolve_symbol("EURUSD") == "EURUSD.m"
        assert mt5.stats.calls == calls
        with pytest.raises(MT5ValidationError, match=r"ambiguous symbol GBPUSD: GBPUSD.a, GBPUSD.b"):
            await mt5.resolve_symbol("GBPUSD")


async def test_one_host_for_all_when_history_is_not_to_have_its_own() -> None:
    config = TerminalConfig(backend="fake_mt5", history_host=False, python_path=(FAKE_PATH,))
    async with MT5SessionManager(config) as mt5:
        assert len(await mt5.get_rates("EURUSD", "H1", 3)) == 3
        assert len(await mt5.get_rates("EURUSD", "H1", 2, from_msc=1_700_000_000_000)) == 2
        assert mt5.stats.history_starts == 0


async def test_after_a_step_back_what_came_before_it_is_read_first() -> None:
    base = 1_700_000_000_000
    timeline = [Segment(0, 0, 3_600_000), Segment(1, base, 0)]
    config = TerminalConfig(backend="fake_mt5", python_path=(FAKE_PATH,))
    async with MT5SessionManager(config, clock=BrokerClock(timeline=timeline)) as mt5:
        # Nothing is left of the time before: on with the new epoch, from its beginning.
        result = await mt5.poll_ticks({"EURUSD": Cursor(base + 3_000_000, 1, 0)})
        assert result.cursors["EURUSD"] == Cursor(base, 0, 1)
        assert not result.blocks
        result = await mt5.poll_ticks(result.cursors)
        assert result.cursors["EURUSD"] == Cursor(base + 2004, 2, 1)
        assert (result.blocks["EURUSD"].count, result.blocks["EURUSD"].epoch) == (30, 1)
        # What has ticks of the time before yet: they are of that epoch.
        result = await mt5.poll_ticks({"EURUSD": Cursor(base - 5, 1, 0)})
        assert (result.blocks["EURUSD"].count, result.blocks["EURUSD"].epoch) == (30, 0)
        assert result.cursors["EURUSD"] == Cursor(base, 0, 1)


def test_a_session_tells_no_password() -> None:
    mt5 = MT5SessionManager(login=5, password="hunter2", server="S")
    assert "hunter2" not in repr(mt5.config)
    assert "5" in repr(mt5.config)


async def test_a_defect_in_the_supervisor_is_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake() as mt5:

        async def broken(max_wait: float | None) -> None:
            raise ZeroDivisionError("a defect")

        monkeypatch.setattr(mt5._link, "_open", broken)
        mt5.kill_host("the test wants it")
        await eventually(lambda: mt5.state is TerminalState.FAILED)
        assert "defect" in mt5.detail
