"""What is on disk: whole after a death at any moment, refused and kept when damaged, shared by two who write."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.paper import ALWAYS, begin

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator.books import store as stores
from mt5_bridge.simulator.faults import trouble
from mt5_bridge.simulator.faults.injector import fault
from mt5_bridge.simulator.functions.functions import Functions
from mt5_bridge.simulator.market.clock import ManualClock
from mt5_bridge.simulator.terminal import Terminal, TerminalError, make
from mt5_bridge.simulator.trading.session import Session

ACCOUNT = "5000001@Paper-Demo-USD-hedging.sqlite"
BUY: dict[str, Any] = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    mt5.uninstall()


def trade(market: mt5.MarketControl) -> None:
    """Some of everything: a fill, a partial close, a pending that is changed, one that is removed, a stop."""
    ticket = mt5.order_send({**BUY, "volume": 0.3}).order
    market.advance(5)
    mt5.order_send({**BUY, "type": 1, "position": ticket})
    price = round(mt5.symbol_info_tick("EURUSD").ask - 0.01, 5)
    waiting = mt5.order_send({**BUY, "action": 5, "type": 2, "price": price}).order
    mt5.order_send({"action": 7, "order": waiting, "price": round(price - 0.001, 5)})
    other = mt5.order_send({**BUY, "action": 5, "type": 2, "price": price}).order
    mt5.order_send({"action": 8, "order": other})
    mt5.order_send({"action": 6, "position": ticket, "symbol": "EURUSD", "sl": round(price - 0.01, 5), "tp": 0.0})


def books() -> Any:
    """Everything the account says of itself that does not move with the price."""
    return (
        mt5.account_info().balance,
        [tuple(position)[:13] for position in mt5.positions_get()],
        [tuple(order)[:19] for order in mt5.orders_get()],
        mt5.history_orders_get(*ALWAYS),
        mt5.history_deals_get(*ALWAYS),
    )


def reopened(folder: Path) -> Any:
    begin(folder)
    return books()


def test_a_ticket_spent_on_nothing_stays_spent(tmp_path: Path) -> None:
    market = begin(tmp_path, symbols={"EURUSD": {"execution": "instant", "requotes": 1.0}})
    requote = {**BUY, "price": mt5.symbol_info_tick("EURUSD").ask}
    assert mt5.order_send(requote).retcode == mt5.TRADE_RETCODE_REQUOTE
    spent = market.terminal.session.account.ledger.next_ticket
    begin(tmp_path)
    assert mt5.order_send(BUY).order == spent


# A death at any moment.


@pytest.fixture
def each_statement(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Calls back before every statement that SQLite runs: the moments between which a file changes."""
    plain = stores._connect

    def watch(callback: Callable[[], None]) -> None:
        def connect(path: Path) -> sqlite3.Connection:
            db = plain(path)
            db.set_trace_callback(lambda _: callback())
            return db

        monkeypatch.setattr(stores, "_connect", connect)

    return watch


def test_a_death_inside_a_call_leaves_the_books_of_before_or_after(
    tmp_path: Path, each_statement: Callable[[Callable[[], None]], None]
) -> None:
    live = tmp_path / "live"
    photos: list[Path] = []

    def photograph() -> None:
        """What a killed process leaves: the files as they are, without the index that it shared."""
        photos.append(tmp_path / f"photo-{len(photos)}")
        shutil.copytree(live, photos[-1], ignore=shutil.ignore_patterns("*-shm"))

    each_statement(lambda: photograph() if watching else None)
    watching = False
    market = begin(live)
    ticket = mt5.order_send(BUY).order
    before = books()
    watching = True
    assert mt5.order_send({**BUY, "type": 1, "position": ticket}).retcode == mt5.TRADE_RETCODE_DONE
    watching = False
    after = books()
    assert len(photos) > 5
    assert before != after
    found = [reopened(photo) for photo in photos]
    assert all(state in (before, after) for state in found)
    assert found[0] == before
    assert market.now() == mt5.install(clock="manual").now()


def test_a_log_cut_anywhere_is_the_books_of_before_or_after(tmp_path: Path) -> None:
    live = tmp_path / "live"
    begin(live)
    ticket = mt5.order_send(BUY).order
    states = [books()]
    log = live / "paper" / (ACCOUNT + "-wal")
    whole = log.stat().st_size
    mt5.order_send({**BUY, "type": 1, "position": ticket})
    states.append(books())
    longer = log.stat().st_size
    assert longer > whole
    shutil.copytree(live, tmp_path / "photo", ignore=shutil.ignore_patterns("*-shm"))
    for size in sorted({*range(whole, longer, 500), longer - 1}):
        cut = tmp_path / f"cut-{size}"
        shutil.copytree(tmp_path / "photo", cut)
        os.truncate(cut / "paper" / log.name, size)
        assert reopened(cut) == states[0]
        mt5.shutdown()
    assert reopened(tmp_path / "photo") == states[1]


def test_an_account_is_opened_whole_or_not_at_all(
    tmp_path: Path, each_statement: Callable[[Callable[[], None]], None]
) -> None:
    photos: list[Path] = []

    def photograph() -> None:
        if not opening:
            return
        photos.append(tmp_path / f"photo-{len(photos)}")
        shutil.copytree(tmp_path / "live", photos[-1], ignore=shutil.ignore_patterns("*-shm"))

    each_statement(photograph)
    opening = True
    begin(tmp_path / "live")
    opening = False
    assert len(photos) > 20
    for photo in photos:
        balance, _, _, _, deals = reopened(photo)
        assert (balance, len(deals)) == (10000.0, 1)


def test_a_late_order_is_executed_once_whenever_the_process_dies(
    tmp_path: Path, each_statement: Callable[[Callable[[], None]], None]
) -> None:
    live = tmp_path / "live"
    photos: list[tuple[Path, bool]] = []

    def photograph() -> None:
        if watching:
            photos.append((tmp_path / f"photo-{len(photos)}", sent))
            shutil.copytree(live, photos[-1][0], ignore=shutil.ignore_patterns("*-shm"))

    each_statement(photograph)
    watching = sent = False
    market = begin(live)
    nothing = books()
    mt5.inject(kind="late_fill", seconds=5)
    watching = True
    assert mt5.order_send({**BUY, "tp": round(mt5.symbol_info_tick("EURUSD").ask + 0.5, 5)}).order == 0
    sent = True
    market.advance(10)
    watching = False
    after = books()
    assert mt5.positions_total() == 1
    assert len(photos) > 8
    for photo, on_its_way in photos:
        market = begin(photo)
        market.advance(10)
        assert books() == after or (books() == nothing and not on_its_way)


TRADER = """
    import sys, mt5_bridge.simulator as mt5
    market = mt5.install(clock="manual", DATA_DIR=sys.argv[1])
    assert mt5.initialize() and mt5.symbol_select("EURUSD")
    for n in range(1_000_000):
        held = mt5.positions_get()
        request = {"action": 1, "symbol": "EURUSD", "volume": 0.1, "type": 0}
        if len(held) > 3:
            request |= {"type": 1, "position": held[0].ticket}
        result = mt5.order_send(request)
        print(result.retcode, result.order, result.deal, flush=True)
        market.advance(1)
"""


@pytest.mark.parametrize("seed", range(2))
def test_what_was_answered_before_a_kill_is_there(tmp_path: Path, seed: int) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = textwrap.dedent(TRADER)
    wanted = random.Random(seed).randrange(1, 150)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        answers = [child.stdout.readline().split() for _ in range(wanted)]
        child.kill()
        # What it could still say before it died was answered, too; a torn last line was not.
        answers += [line.split() for line in child.stdout.read().split("\n")[:-1]]
    mt5.install(clock=ManualClock(mt5.install(clock="manual").now() + 10**8), DATA_DIR=str(tmp_path))
    assert mt5.initialize(), mt5.last_error()
    deals = {deal.ticket: deal.order for deal in mt5.history_deals_get(*ALWAYS)}
    assert all(retcode == "10009" and deals[int(deal)] == int(order) for retcode, order, deal in answers)
    # The deposit, what was answered, and at most the one in hand.
    assert 0 <= len(deals) - 1 - len(answers) <= 1
    sides = [deal.type for deal in mt5.history_deals_get(*ALWAYS) if deal.symbol]
    assert mt5.positions_total() == sides.count(0) - sides.count(1)


# Damage.

RUBBISH = b"rubbish " * 4096


def overwritten(path: Path) -> None:
    path.write_bytes(RUBBISH)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def halved(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 1024 * 1024)


def scratched(path: Path) -> None:
    """A page in the middle is another's."""
    with path.open("r+b") as file:
        file.seek(3 * 1024)
        file.write(RUBBISH[:4096])


def nonsense(*statements: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        db = sqlite3.connect(path)
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()

    return write


@pytest.mark.parametrize(
    "damage",
    [
        overwritten, emptied, halved, scratched,
        nonsense("UPDATE meta SET value = 'much' WHERE name = 'books'"),
        nonsense("UPDATE meta SET value = 'nan 50000009 0' WHERE name = 'books'"),
        nonsense("UPDATE positions SET volume = 'a lot'"),
        nonsense("UPDATE orders SET price_open = NULL"),
        nonsense("UPDATE deals SET price = 'abc', volume = NULL"),
        nonsense("UPDATE deals SET time_msc = 'x'"),
        nonsense("UPDATE history SET state = 1.5"),
        nonsense("UPDATE meta SET value = '9' || value WHERE name = 'books'"),
        nonsense("UPDATE meta SET value = value || '5' WHERE name = 'books'"),
        nonsense("DELETE FROM deals WHERE ticket = 50000001"),
        nonsense("UPDATE meta SET value = 'zz' WHERE name = 'password'"),
    ],
)  # fmt: skip
def test_a_damaged_account_is_refused_once_kept_and_begun_anew(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    trade(begin(tmp_path))
    mt5.uninstall()
    path = tmp_path / "paper" / ACCOUNT
    damage(path)
    bad = path.read_bytes()
    mt5.configure({"DATA_DIR": str(tmp_path), "PAPER_ROLE": "history"})
    assert mt5.initialize() is False
    assert path.exists(), "one who only reads moves nothing"
    begin_fails(tmp_path, path, f"{ACCOUNT}.corrupt-1; the next start begins a new account")
    assert (path.parent / f"{ACCOUNT}.corrupt-1").read_bytes() == bad
    assert mt5.initialize(), mt5.last_error()
    assert (mt5.account_info().balance, mt5.positions_total(), mt5.history_deals_total(*ALWAYS)) == (10000.0, 0, 1)
    mt5.uninstall()
    overwritten(path)
    begin_fails(tmp_path, path, f"{ACCOUNT}.corrupt-2")


def begin_fails(folder: Path, path: Path, text: str) -> None:
    mt5.configure({"DATA_DIR": str(folder)})
    assert mt5.initialize() is False
    code, said = mt5.last_error()
    assert code == mt5.RES_E_INTERNAL_FAIL_INIT
    assert str(path) in said
    assert text in said


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"anchor_msc": "soon"}', "rubbish", '{"anchor_msc": -1}', '{"anchor_msc": 9223372036854775807}',
        '{"anchor_msc": 4102444800000}',
    ],
)  # fmt: skip
def test_a_damaged_market_is_refused_once_kept_and_begun_anew(tmp_path: Path, text: str) -> None:
    trade(begin(tmp_path))
    before = books()
    mt5.uninstall()
    path = tmp_path / "paper" / "market.json"
    path.write_text(text)
    mt5.configure({"DATA_DIR": str(tmp_path), "PAPER_ROLE": "history"})
    assert mt5.initialize() is False
    assert path.exists()
    begin_fails(tmp_path, path, "market.json.corrupt-1; the next start begins a new market")
    assert (path.parent / "market.json.corrupt-1").read_text() == text
    assert reopened(tmp_path) == before


def test_a_market_of_another_version_is_refused_and_stays(tmp_path: Path) -> None:
    begin(tmp_path)
    path = tmp_path / "paper" / "market.json"
    path.write_text('{"anchor_msc": 1704240000000, "version": 2}')
    for _ in range(2):
        begin_fails(tmp_path, path, "version 2")
    assert path.exists()


def test_what_cannot_be_set_aside_is_refused_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trade(begin(tmp_path))
    mt5.uninstall()
    path = tmp_path / "paper" / ACCOUNT
    overwritten(path)

    def in_use(*_: object) -> Path:
        raise PermissionError("in use")

    monkeypatch.setattr(Path, "rename", in_use)
    begin_fails(tmp_path, path, "keeps its name (in use); move it away")


def test_damage_found_while_running_is_told_by_name(tmp_path: Path) -> None:
    begin(tmp_path)
    path = tmp_path / "paper" / ACCOUNT
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("ALTER TABLE deals RENAME TO lost")
    assert mt5.history_deals_get(*ALWAYS) is None
    assert mt5.last_error()[0] == mt5.RES_E_FAIL
    assert str(path) in mt5.last_error()[1]
    assert mt5.history_deals_total(*ALWAYS) is None
    assert mt5.order_send(BUY).retcode == mt5.TRADE_RETCODE_REJECT
    db.execute("ALTER TABLE lost RENAME TO deals")
    db.execute("UPDATE deals SET price = 'abc'")
    assert mt5.history_deals_get(*ALWAYS) is None
    assert "is damaged (deal 50000001: " in mt5.last_error()[1]
    db.execute("UPDATE deals SET price = 0.0")
    assert mt5.order_send(BUY).retcode == mt5.TRADE_RETCODE_DONE
    db.execute("UPDATE meta SET value = 'much' WHERE name = 'books'")
    db.close()
    assert mt5.positions_get() is None
    assert f"{ACCOUNT}.corrupt-1" in mt5.last_error()[1]


def test_an_account_of_another_market_is_refused_and_kept(tmp_path: Path) -> None:
    trade(begin(tmp_path))
    mt5.uninstall()
    mt5.configure({"DATA_DIR": str(tmp_path), "PAPER_SYMBOL_SUFFIX": ".m"})
    assert mt5.initialize() is False
    assert "EURUSD" in mt5.last_error()[1]
    assert "PAPER_SYMBOL_SUFFIX" in mt5.last_error()[1]
    begin(tmp_path)
    assert mt5.login(5000002, "x") is True
    assert mt5.positions_total() == 0


def test_a_file_of_before_a_field_was_added_opens(tmp_path: Path) -> None:
    trade(begin(tmp_path))
    before = books()
    mt5.uninstall()
    nonsense("ALTER TABLE deals DROP COLUMN fee", "ALTER TABLE orders DROP COLUMN position_by_id")(
        tmp_path / "paper" / ACCOUNT
    )
    assert reopened(tmp_path) == before


# No room.

FULL = """
    import resource, sys, mt5_bridge.simulator as mt5
    market = mt5.install(clock="manual", DATA_DIR=sys.argv[1])
    assert mt5.initialize() and mt5.symbol_select("EURUSD")
    buy = {"action": 1, "symbol": "EURUSD", "volume": 0.01, "type": 0}
    print(mt5.order_send(buy).retcode)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, unlimited[1]))
    answers = [mt5.order_send(buy).retcode for _ in range(30)]
    first = answers.index(10006)
    print(first, set(answers[:first]), set(answers[first:]), mt5.positions_total() == first + 1)
    sys.stdout.flush()
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    print(mt5.order_send(buy).retcode, mt5.positions_total() == first + 2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on a process's files to fill")
def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL), str(tmp_path)],
        capture_output=True, text=True, env=environment, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, middle, last = done.stdout.splitlines()
    assert first == "10009"
    assert middle.split()[1:] == ["{10009}", "{10006}", "True"]
    assert last == "10009 True"


def test_an_account_that_cannot_be_opened_for_want_of_room_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    begin(tmp_path)
    monkeypatch.setattr(stores.Store, "commit", full)
    assert mt5.login(5000002, "x") is False
    assert mt5.last_error() == (mt5.RES_E_FAIL, "database or disk is full")
    assert mt5.initialize(login=5000002, password="x") is False
    assert mt5.last_error()[0] == mt5.RES_E_INTERNAL_FAIL_INIT


# Two who write.


def terminals(folder: Path, count: int = 2) -> list[Terminal]:
    clock = ManualClock()
    found = []
    for _ in range(count):
        found.append(make({"DATA_DIR": str(folder)}, clock))
        found[-1].initialize(None, None, None)
        Functions(found[-1]).symbol_select("EURUSD")
    return found


def test_two_who_trade_on_one_account_lose_and_double_nothing(tmp_path: Path) -> None:
    one, other = (Functions(terminal) for terminal in terminals(tmp_path))
    for turn in range(6):
        for functions in (one, other):
            assert functions.order_send({**BUY, "magic": turn}).retcode == mt5.TRADE_RETCODE_DONE
    ticket = one.positions_get()[0].ticket
    assert [functions.positions_total() for functions in (one, other)] == [12, 12]
    assert other.order_send({**BUY, "type": 1, "position": ticket}).retcode == mt5.TRADE_RETCODE_DONE
    assert one.order_send({**BUY, "type": 1, "position": ticket}).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
    deals = one.history_deals_get(*ALWAYS)
    assert len({deal.ticket for deal in deals}) == len(deals) == 14
    for functions in (one, other):
        functions.shutdown()


def test_who_comes_second_judges_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one writes after this one looked: between its look and its own write."""
    one, other = (Functions(terminal) for terminal in terminals(tmp_path))
    assert one.order_send(BUY).retcode == mt5.TRADE_RETCODE_DONE
    ticket = one.positions_get()[0].ticket
    close = {**BUY, "type": 1, "position": ticket}
    send, interruptions = Functions._send, [lambda: other.order_send(close)]

    def late(self: Functions, *args: Any) -> Any:
        if self is one and interruptions:
            interruptions.pop()()
        return send(self, *args)

    monkeypatch.setattr(Functions, "_send", late)
    assert one.order_send(close).retcode == mt5.TRADE_RETCODE_POSITION_CLOSED
    assert [deal.entry for deal in one.history_deals_get(*ALWAYS)] == [0, 0, 1]
    interruptions.extend([lambda: other.order_send(BUY)] * 100)
    assert one.order_send(BUY).retcode == mt5.TRADE_RETCODE_REJECT, "it gives up in the end"
    for functions in (one, other):
        functions.shutdown()


def test_ticks_worked_off_by_another_are_not_worked_off_again(tmp_path: Path) -> None:
    one, other = (Functions(terminal) for terminal in terminals(tmp_path))
    clock = one.terminal.clock
    assert isinstance(clock, ManualClock)
    ask = one.symbol_info_tick("EURUSD").ask
    assert one.order_send({**BUY, "tp": round(ask + 0.0001, 5)}).retcode == mt5.TRADE_RETCODE_DONE
    clock.advance(86_400)
    assert [functions.positions_total() for functions in (other, one)] == [0, 0]
    assert [deal.entry for deal in one.history_deals_get(*ALWAYS)] == [0, 0, 1]
    for functions in (one, other):
        functions.shutdown()


def delay(functions: Functions, magic: int, seconds: float = 3.0) -> None:
    functions.terminal.faults.add(fault(kind="late_fill", seconds=seconds))
    sent = trouble.perform(functions, "order_send", ({**BUY, "magic": magic},), {})
    assert sent.retcode == mt5.TRADE_RETCODE_TIMEOUT


def test_a_late_order_is_executed_once_whoever_is_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (Functions(terminal) for terminal in terminals(tmp_path))
    clock = one.terminal.clock
    assert isinstance(clock, ManualClock)
    delay(one, 1)
    clock.advance(5)
    assert [functions.positions_total() for functions in (other, one)] == [1, 1]
    delay(one, 2)
    clock.advance(5)
    barred, interruptions = Session.barred, [other.positions_total]

    def interrupted(self: Session) -> int:
        if self is one.terminal.session and interruptions:
            interruptions.pop()()
        return barred(self)

    monkeypatch.setattr(Session, "barred", interrupted)
    assert one.positions_total() == 2, "the other one executed it while this one was about to"
    assert not interruptions
    assert [position.magic for position in other.positions_get()] == [1, 2]
    for functions in (one, other):
        functions.shutdown()


def test_late_orders_of_two_who_die_are_both_executed(tmp_path: Path) -> None:
    one, other = (Functions(terminal) for terminal in terminals(tmp_path))
    clock = one.terminal.clock
    assert isinstance(clock, ManualClock)
    delay(one, 1)
    delay(other, 2)
    for functions in (one, other):
        functions.shutdown()
    clock.advance(5)
    third = make({"DATA_DIR": str(tmp_path)}, clock)
    third.initialize(None, None, None)
    assert [position.magic for position in Functions(third).positions_get()] == [1, 2]
    third.close()


def test_who_is_always_late_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (terminal,) = terminals(tmp_path, 1)

    def changed(*_: object) -> None:
        raise stores.BooksChangedError

    monkeypatch.setattr(terminal.session.engine, "sync", changed)
    with pytest.raises(TerminalError, match="another process"):
        terminal.synced()
    terminal.close()


def test_two_who_open_an_account_open_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    first = make({"DATA_DIR": str(tmp_path)}, clock)
    late = make({"DATA_DIR": str(tmp_path), "PAPER_BALANCE": "77", "MT5_PASSWORD": "other"}, clock)
    commit = stores.Store.commit

    def after(self: stores.Store, *args: Any) -> None:
        if not first.connected:
            monkeypatch.setattr(stores.Store, "commit", commit)
            first.initialize(None, None, None)
        commit(self, *args)

    monkeypatch.setattr(stores.Store, "commit", after)
    with pytest.raises(TerminalError, match="Authorization"):
        late.initialize(None, None, None)
    assert first.session.account.ledger.balance == 10000
    first.close()
    late.close()
