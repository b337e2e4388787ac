"""What is written, and what a write that fails once leaves: nothing of a step, and the step is done anew."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.paper import ALWAYS, balance_adds_up, begin, buy, sell, send

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator.books.store import BooksChangedError, Store
from mt5_bridge.simulator.market.clock import ManualClock
from mt5_bridge.simulator.terminal import TerminalError

NAN = float("nan")
FAILURES = [sqlite3.OperationalError, BooksChangedError]


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    mt5.uninstall()


@pytest.fixture
def fail_once(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Makes the write of a given number, counted from now, fail; the list holds one entry per write tried."""

    def arrange(error: type[sqlite3.Error], number: int = 1) -> list[int]:
        commit = Store.commit
        tried: list[int] = []

        def once(self: Store, *args: Any) -> None:
            tried.append(1)
            if len(tried) == number:
                raise error("database is locked")
            commit(self, *args)

        monkeypatch.setattr(Store, "commit", once)
        return tried

    return arrange


def hedged() -> int:
    first, second = buy(), sell()
    refused = send(action=mt5.TRADE_ACTION_CLOSE_BY, position=first.order, position_by=second.order, sl=NAN)
    return int(refused.retcode)


def netted() -> int:
    buy()
    return int(sell(tp=NAN).retcode)


@pytest.mark.parametrize(("trade", "mode"), [(hedged, "hedging"), (netted, "netting"), (netted, "exchange")])
def test_a_level_that_is_no_number_is_refused_also_of_what_closes(
    trade: Callable[[], int], mode: str, tmp_path: Path
) -> None:
    """SQLite has no NaN: an order with one would be a damaged account at the next start."""
    begin(tmp_path, margin_mode=mode).tick("EURUSD", 1.1, 1.1001)
    assert trade() == mt5.TRADE_RETCODE_INVALID_STOPS
    assert mt5.history_orders_get(*ALWAYS) is not None
    mt5.shutdown()
    assert mt5.initialize(), mt5.last_error()


def dip(folder: Path) -> Path:
    """Half an hour of EURUSD, one tick a second, with three seconds in which it is 500 pips lower."""
    path = folder / "eurusd.csv"
    lines = ["timestamp,bid,ask"]
    for second in range(1800):
        bid = 1.05 if 1000 <= second < 1003 else 1.1
        lines.append(f"2013-01-01 00:{second // 60:02d}:{second % 60:02d}.000000+00:00,{bid:.5f},{bid + 0.0001:.5f}")
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("error", FAILURES)
def test_a_stop_out_whose_writing_failed_once_is_not_forgotten(
    error: type[sqlite3.Error], tmp_path: Path, fail_once: Callable[..., list[int]]
) -> None:
    market = begin(tmp_path, balance=300, ticks=f"EURUSD={dip(tmp_path)}")
    market.advance(60)
    assert buy(0.06).retcode == mt5.TRADE_RETCODE_DONE
    tried = fail_once(error)
    clock = market.terminal.clock
    assert isinstance(clock, ManualClock)
    clock.advance(1_500)
    mt5.positions_total()  # fails, or tries anew by itself
    assert mt5.positions_total() == 0
    assert tried
    assert balance_adds_up()


@pytest.mark.parametrize("error", FAILURES)
def test_a_withdrawal_that_stops_out_does_so_though_the_writing_failed_once(
    error: type[sqlite3.Error], tmp_path: Path, fail_once: Callable[..., list[int]]
) -> None:
    """No tick comes after it: only the money that moved tells the server to look."""
    market = begin(tmp_path, balance=1000)
    market.tick("EURUSD", 1.1, 1.1001)
    assert buy(0.5).retcode == mt5.TRADE_RETCODE_DONE
    tried = fail_once(error, number=2)
    with suppress(TerminalError):  # after the withdrawal itself was written
        market.deposit(-900)
    assert mt5.positions_total() == 0
    assert len(tried) > 2
    assert balance_adds_up()


def test_one_who_only_reads_opens_no_account(tmp_path: Path) -> None:
    """The file is there, the first deposit not yet: another process is just at it, or was killed."""
    folder = tmp_path / "paper"
    folder.mkdir()
    path = folder / "5000001@Paper-Demo-USD-hedging.sqlite"
    Store(path).close()
    mt5.install(clock="manual", DATA_DIR=str(tmp_path), PAPER_ROLE="history", balance=777)
    assert mt5.initialize(), mt5.last_error()
    assert mt5.account_info().balance == 777, "shown, as the account would begin"
    mt5.shutdown()
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT COUNT(*) FROM deals").fetchone() == (0,)
