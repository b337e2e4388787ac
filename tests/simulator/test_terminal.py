"""Connection, accounts, persistence, and two processes on one folder."""

import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.paper import ALWAYS, begin

import mt5_bridge.simulator as mt5
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator.books.folder import PaperStateError, market_anchor
from mt5_bridge.simulator.config import parse
from mt5_bridge.simulator.faults.injector import CRASH_EXIT_CODE
from mt5_bridge.simulator.market.clock import ManualClock
from mt5_bridge.simulator.terminal import make

BUY: dict[str, Any] = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "magic": 77}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    mt5.uninstall()


def test_settings_are_read_by_name() -> None:
    config = parse(
        {
            "MT5_LOGIN": "12", "MT5_PASSWORD": "p", "MT5_SERVER": "S", "DATA_DIR": "/d", "PAPER_SPEED": "2.5",
            "PAPER_TICKS": "a/usdjpy-x.csv, GOLD=b.csv", "PAPER_LOOP": "no", "PAPER_MARGIN_MODE": "netting",
            "PAPER_BALANCE": "12.5", "PAPER_CURRENCY": "eur", "PAPER_ROLE": "history", "OTHER": "x",
        }
    )  # fmt: skip
    assert (config.login, config.password, config.server) == (12, "p", "S")
    assert config.ticks == (("USDJPY", Path("a/usdjpy-x.csv")), ("GOLD", Path("b.csv")))
    assert config.margin_mode is MarginMode.NETTING
    assert (config.balance, config.currency, config.loop, config.read_only) == (Decimal("12.5"), "EUR", False, True)


def test_every_wrong_setting_is_told_at_once() -> None:
    wrong = {
        "MT5_LOGIN": "x", "PAPER_SPEED": "0", "PAPER_BALANCE": "-1", "PAPER_LOOP": "maybe",
        "PAPER_SESSIONS": "some", "PAPER_LEVERAGE": "0",
    }  # fmt: skip
    with pytest.raises(SettingsError) as caught:
        mt5.configure(wrong)
    assert all(f"{name}:" in str(caught.value) for name in wrong)
    with pytest.raises(SettingsError):
        parse({"PAPER_BALANCE": "much", "PAPER_SPEED": "1/0"})
    with pytest.raises(ValueError, match="clock"):
        make({}, "atomic")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PAPER_SERVER_OFFSET", "86401"), ("PAPER_SERVER_OFFSET", "-86401"), ("PAPER_SERVER_OFFSET", "9" * 20),
        ("PAPER_SPEED", "1000001"), ("PAPER_SPEED", "1e30"), ("PAPER_SPEED", "0.0009"), ("PAPER_SPEED", "1e-15"),
    ],
)  # fmt: skip
def test_a_setting_out_of_all_bounds_is_told(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: '{text}' is not a"):
        parse({name: text})


@pytest.mark.parametrize("speed", ["0.001", "1e6"])
def test_prices_and_bars_hold_at_the_bounds_of_speed(speed: str) -> None:
    market = mt5.install(clock="manual", ticks="", speed=speed, server_offset=-86_400)
    try:
        assert mt5.initialize()
        mt5.symbol_select("GBPUSD")
        market.advance(0.1)
        tick = mt5.symbol_info_tick("GBPUSD")
        assert 0 <= market.now() // 1000 - 86_400 - tick.time < 600
        assert len(mt5.copy_rates_from_pos("GBPUSD", mt5.TIMEFRAME_M1, 0, 3)) > 0
    finally:
        mt5.uninstall()


@pytest.mark.parametrize(
    "wrong",
    [
        {"PAPER_BALANCE": "1e400"}, {"PAPER_BALANCE": "1e13"}, {"PAPER_BALANCE": "0.001"}, {"PAPER_BALANCE": "nan"},
        {"PAPER_BALANCE": "0.5", "PAPER_CURRENCY": "JPY"}, {"PAPER_CURRENCY": "../X"}, {"PAPER_CURRENCY": "X"},
        {"MT5_LOGIN": str(2**64)}, {"PAPER_SERVER_OFFSET": "86401"}, {"PAPER_LEVERAGE": str(2**32)},
    ],
)  # fmt: skip
def test_settings_that_make_no_account_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        mt5.configure(wrong)


def test_initialize_alone_logs_in_to_the_configured_account(tmp_path: Path) -> None:
    begin(tmp_path, MT5_LOGIN=42, MT5_PASSWORD="secret", MT5_SERVER="My/Broker")
    info = mt5.account_info()
    assert (info.login, info.server, info.balance) == (42, "My/Broker", 10000.0)
    assert mt5.version()[1] == mt5.terminal_info().build
    assert mt5.initialize(login=42, password="wrong", server="My/Broker") is False
    assert mt5.last_error() == (mt5.RES_E_AUTH_FAILED, "Terminal: Authorization failed")
    assert mt5.account_info() is None
    assert mt5.initialize("C:\\terminal64.exe", login=42, password="secret", timeout=1000, portable=True)
    assert mt5.login(42, "wrong") is False
    assert mt5.last_error()[0] == mt5.RES_E_AUTH_FAILED
    assert mt5.account_info().login == 42
    assert mt5.login(42) is True
    assert mt5.login(43, "new", "Other") is True
    assert mt5.account_info().server == "Other"
    assert mt5.shutdown() is True
    assert mt5.login(42, "secret") is False
    for file in (tmp_path / "paper").iterdir():
        assert b"secret" not in file.read_bytes()


def test_what_is_empty_is_not_given(tmp_path: Path) -> None:
    """Wrappers pass their defaults on."""
    mt5.install(clock="manual", DATA_DIR=str(tmp_path))
    assert mt5.initialize(login=0, password="", server="", timeout=60_000)
    assert mt5.initialize()
    assert mt5.initialize(login=5000001, password="paper", server="Paper-Demo"), "the first login did not lock it"
    assert mt5.initialize(login=5000001, password="", server="")
    assert mt5.login(5000001, "", "")
    assert mt5.login(login=5000001, password="", server="")
    assert mt5.initialize(login=5000001, password="wrong") is False
    assert mt5.last_error()[0] == mt5.RES_E_AUTH_FAILED


def test_a_password_of_any_letters(tmp_path: Path) -> None:
    begin(tmp_path)
    assert mt5.initialize(login=5000001, password="\ud800") is False
    assert mt5.last_error()[0] == mt5.RES_E_AUTH_FAILED
    assert mt5.initialize(login=7, password="\ud800")
    assert mt5.login(7, "\ud801") is False
    assert mt5.login(7, "\ud800")


@pytest.mark.parametrize("folder", [True, False])
def test_every_server_has_accounts_of_its_own(tmp_path: Path, folder: bool) -> None:
    market = mt5.install(clock="manual", DATA_DIR=tmp_path if folder else "")
    servers = ["Broker_Demo", "Broker Demo", "Broker/Demo", "Broker%20Demo", "Br\u00f6ker", "\ud800", "_", "%5F", ".."]
    for deposit, server in enumerate(servers, 1):
        assert mt5.initialize(login=5, password="p", server=server)
        assert mt5.account_info().balance == 10_000
        market.deposit(deposit)
    for deposit, server in enumerate(servers, 1):
        assert mt5.initialize(login=5, password="p", server=server)
        assert (mt5.account_info().balance, mt5.account_info().server) == (10_000 + deposit, server)


def test_an_account_of_before_servers_were_told_apart_is_found(tmp_path: Path) -> None:
    begin(tmp_path, MT5_SERVER="My Broker").deposit(1)
    mt5.uninstall()
    [file] = (tmp_path / "paper").glob("*.sqlite")
    with closing(sqlite3.connect(file)) as db, db:
        db.execute("DELETE FROM meta WHERE name = 'server'")
    file.rename(file.with_name("5000001@My_Broker-USD-hedging.sqlite"))
    begin(tmp_path, MT5_SERVER="My Broker")
    assert mt5.account_info().balance == 10_001


def test_there_are_folders_to_make_paths_of(tmp_path: Path) -> None:
    begin(tmp_path)
    info = mt5.terminal_info()
    assert info.path == info.data_path == info.commondata_path == str(tmp_path / "paper")
    mt5.install(clock="manual")
    assert mt5.initialize()
    info = mt5.terminal_info()
    assert Path(info.path).is_dir()
    assert Path(info.data_path).is_absolute()
    assert info.data_path == info.commondata_path != info.path


def test_uninstall_gives_back_what_import_gave_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ModuleType("MetaTrader5")
    monkeypatch.setitem(sys.modules, "MetaTrader5", before)
    for _ in range(2):
        mt5.install(clock="manual")
        assert sys.modules["MetaTrader5"] is mt5
    for _ in range(2):
        mt5.uninstall()
        assert sys.modules["MetaTrader5"] is before
    monkeypatch.delitem(sys.modules, "MetaTrader5")
    mt5.install(clock="manual")
    mt5.uninstall()
    assert "MetaTrader5" not in sys.modules


def test_an_account_outlives_the_process(tmp_path: Path) -> None:
    market = begin(tmp_path)
    market.tick("EURUSD", 1.1, 1.1001)
    ticket = mt5.order_send({**BUY, "sl": 1.0, "comment": "kept"}).order
    waiting = mt5.order_send({**BUY, "action": 5, "type": 2, "price": 1.0}).order
    before = (mt5.positions_get(), mt5.account_info().balance, mt5.history_deals_get(*ALWAYS))
    begin(tmp_path)
    assert mt5.positions_get()[0][:10] == before[0][0][:10]
    assert (mt5.account_info().balance, mt5.history_deals_get(*ALWAYS)) == before[1:]
    assert [order.ticket for order in mt5.orders_get()] == [waiting]
    newer = mt5.order_send(BUY).order
    assert newer > max(ticket, waiting)


def _a_day_of_trading(folder: Path, looks: int, settings: dict[str, Any], request: dict[str, Any]) -> Any:
    """One position held for a day in which somebody looks so often; a single look means a restart at the end.

    Prices of the request are distances from the first ask.
    """
    market = begin(folder, **settings)
    mt5.symbol_select("GBPUSD")
    ask = mt5.symbol_info_tick("GBPUSD").ask
    prices = {name: ask + request[name] for name in ("price", "sl", "tp") if name in request}
    assert mt5.order_send({**BUY, "symbol": "GBPUSD", **request, **prices}).retcode == mt5.TRADE_RETCODE_DONE
    if looks == 1:
        mt5.install(clock=ManualClock(market.now() + 86_400_000), DATA_DIR=str(folder), **settings)
        assert mt5.initialize()
    else:
        for _ in range(looks):
            market.advance(86_400 / looks)
    return mt5.history_deals_get(*ALWAYS)


@pytest.mark.parametrize(
    ("settings", "request_", "reason"),
    [
        ({"seed": 5}, {"volume": 0.5, "sl": -0.003, "tp": 0.01}, mt5.DEAL_REASON_SL),
        ({"seed": 6}, {"action": 5, "type": 4, "price": 0.002, "tp": 0.006}, mt5.DEAL_REASON_TP),
        ({"seed": 6, "leverage": 500, "balance": 210}, {"volume": 0.5, "type": 1}, mt5.DEAL_REASON_SO),
    ],
)
def test_what_the_market_did_meanwhile_is_found_on_return(
    tmp_path: Path, settings: dict[str, Any], request_: dict[str, Any], reason: int
) -> None:
    watched = _a_day_of_trading(tmp_path / "watched", 200, settings, request_)
    away = _a_day_of_trading(tmp_path / "away", 1, settings, request_)
    assert watched == away
    assert len(watched) == 3
    assert watched[-1].reason == reason


def test_the_same_calls_give_the_same_books() -> None:
    def run() -> Any:
        market = mt5.install(clock="manual", seed=3)
        mt5.initialize()
        mt5.symbol_select("GBPUSD")
        for step in range(20):
            request = {**BUY, "symbol": "GBPUSD", "type": step % 2}
            if step > 5 and mt5.positions_get():
                request["position"] = mt5.positions_get()[0].ticket
                request["type"] = 1 - mt5.positions_get()[0].type
            mt5.order_send(request)
            market.advance(10)
        return mt5.history_deals_get(*ALWAYS), mt5.history_orders_get(*ALWAYS), mt5.account_info()

    assert run() == run()


def python(code: str, folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder), *args],
        capture_output=True, text=True, env=environment, timeout=50, check=False,
    )  # fmt: skip


def test_a_kill_right_after_execution_leaves_the_position(tmp_path: Path) -> None:
    code = """
        import sys, mt5_bridge.simulator as mt5
        mt5.configure({"DATA_DIR": sys.argv[1]})
        assert mt5.initialize() and mt5.symbol_select("EURUSD")
        mt5.inject(function="order_send", kind="crash", when=sys.argv[2])
        mt5.order_send({"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0, "magic": 77})
    """
    assert python(code, tmp_path, "before").returncode == CRASH_EXIT_CODE
    mt5.configure({"DATA_DIR": str(tmp_path)})
    assert mt5.initialize()
    assert mt5.positions_get() == ()
    mt5.shutdown()
    assert python(code, tmp_path, "after").returncode == CRASH_EXIT_CODE
    assert mt5.initialize()
    assert [position.magic for position in mt5.positions_get()] == [77]


def test_another_process_sees_the_same_ticks_and_writes_nothing(tmp_path: Path) -> None:
    code = """
        import sys, mt5_bridge.simulator as mt5
        mt5.configure({"DATA_DIR": sys.argv[1], "PAPER_ROLE": "history"})
        assert mt5.initialize(), mt5.last_error()
        print(mt5.copy_ticks_range("GBPUSD", int(sys.argv[2]), int(sys.argv[3]), -1).tobytes().hex())
        print(len(mt5.positions_get()), mt5.account_info().trade_allowed)
        request = {"action": 1, "symbol": "GBPUSD", "volume": 0.1, "type": 0}
        mt5.symbol_select("GBPUSD")
        print(mt5.order_send(request).retcode)
    """
    mt5.configure({"DATA_DIR": str(tmp_path)})
    assert mt5.initialize()
    assert mt5.symbol_select("GBPUSD")
    assert mt5.order_send({**BUY, "symbol": "GBPUSD"}).retcode == mt5.TRADE_RETCODE_DONE
    now = mt5.symbol_info_tick("GBPUSD").time
    ours = mt5.copy_ticks_range("GBPUSD", now - 60, now - 1, -1).tobytes().hex()
    done = python(code, tmp_path, str(now - 60), str(now - 1))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [ours, "1", "False", str(mt5.TRADE_RETCODE_TRADE_DISABLED)]
    assert mt5.positions_total() == 1


def test_a_reader_follows_the_one_who_trades(tmp_path: Path) -> None:
    clock = ManualClock()
    reader = make({"DATA_DIR": str(tmp_path), "PAPER_ROLE": "history"}, clock)
    reader.initialize(None, None, None)
    assert reader.session.account.ledger.balance == 10000  # not opened yet: what a new one would hold
    writer = make({"DATA_DIR": str(tmp_path), "PAPER_BALANCE": "500"}, clock)
    writer.initialize(None, None, None)
    reader.initialize(None, None, None)
    assert reader.synced()[0].account.ledger.balance == 500
    session, now = writer.synced()
    session.account.ledger.deposit(Decimal(20), now)
    session.account.commit(now)
    assert reader.synced()[0].account.ledger.balance == 520
    reader.close()
    writer.close()


@pytest.mark.parametrize("name", ["market.json", "5000001@Paper-Demo-USD-hedging.sqlite"])
def test_damaged_state_is_refused_with_its_name(tmp_path: Path, name: str) -> None:
    begin(tmp_path)
    mt5.uninstall()
    (tmp_path / "paper" / name).write_bytes(b"rubbish " * 1000)
    mt5.configure({"DATA_DIR": str(tmp_path)})
    assert mt5.initialize() is False
    code, text = mt5.last_error()
    assert code == mt5.RES_E_INTERNAL_FAIL_INIT
    assert name in text


def test_state_of_another_version_is_refused(tmp_path: Path) -> None:
    begin(tmp_path)
    mt5.uninstall()
    path = next((tmp_path / "paper").glob("*.sqlite"))
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    mt5.configure({"DATA_DIR": str(tmp_path)})
    assert mt5.initialize() is False
    assert "another version" in mt5.last_error()[1]


def test_what_cannot_be_written_did_not_happen(tmp_path: Path) -> None:
    market = begin(tmp_path)
    path = next((tmp_path / "paper").glob("*.sqlite"))
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("CREATE TRIGGER full BEFORE INSERT ON deals BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    assert mt5.order_send(BUY).retcode == mt5.TRADE_RETCODE_REJECT
    assert mt5.positions_get() == ()
    db.execute("DROP TRIGGER full")
    assert mt5.order_send({**BUY, "sl": 1.0}).retcode == mt5.TRADE_RETCODE_DONE
    db.execute("CREATE TRIGGER full BEFORE INSERT ON deals BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    db.close()
    market.advance(1)
    with pytest.raises(Exception, match="disk full"):
        market.tick("EURUSD", 0.9, 0.9001)
    assert mt5.positions_get() is None
    assert mt5.last_error()[0] == mt5.RES_E_FAIL


def test_two_processes_that_begin_a_market_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert market_anchor(tmp_path, 5) == market_anchor(tmp_path, 6) == 5

    def no_links(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr("mt5_bridge.simulator.books.folder.os.link", no_links)
    assert market_anchor(tmp_path / "fat", 7) == 7

    def other_was_first(draft: Path, path: Path) -> None:
        path.write_text('{"anchor_msc": 3}')
        raise FileExistsError

    monkeypatch.setattr("mt5_bridge.simulator.books.folder.os.link", other_was_first)
    assert market_anchor(tmp_path / "race", 8) == 3
    assert [path.name for path in (tmp_path / "race").iterdir()] == ["market.json"]
    (tmp_path / "race" / "market.json").write_text("{")
    with pytest.raises(PaperStateError):
        market_anchor(tmp_path / "race", 9)


def test_install_answers_import_metatrader5() -> None:
    market = mt5.install(clock="manual", PAPER_BALANCE=77)
    import MetaTrader5  # the name under test

    assert MetaTrader5.initialize()
    assert MetaTrader5.account_info().balance == 77.0
    assert market.specs["EURUSD"].digits == 5
    mt5.uninstall()
    assert "MetaTrader5" not in sys.modules


def test_only_a_manual_clock_is_moved_by_hand() -> None:
    market = mt5.install()
    with pytest.raises(TypeError, match="manual"):
        market.advance(1)
    with pytest.raises(ValueError, match="no quote"):
        market.tick("EURUSD", 2.0, 1.0)
    market.tick("EURUSD", 1.0, 1.1)


def test_an_account_in_another_currency() -> None:
    market = mt5.install(clock="manual", currency="JPY", balance=1_000_000)
    mt5.initialize()
    for symbol, bid in (("EURUSD", 1.1), ("USDJPY", 100.0), ("EURJPY", 110.0)):
        mt5.symbol_select(symbol)
        market.tick(symbol, bid, bid)
    assert mt5.account_info().currency_digits == 0
    assert mt5.order_calc_profit(0, "EURUSD", 0.1, 1.1, 1.2) == 100000.0
    assert mt5.order_calc_margin(0, "EURUSD", 0.1, 1.1) == 11000.0


def test_without_asserts_there_is_no_connection_either() -> None:
    code = "import mt5_bridge.simulator as mt5; print(mt5.terminal_info(), mt5.last_error()[0])"
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "-10004"]
