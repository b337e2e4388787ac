"""The terminal program: a connection, a logged-in account, a market watch."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.books import secret
from mt5_bridge.simulator.books.folder import PaperStateError, account_file, escaped, market_anchor
from mt5_bridge.simulator.books.memory import AnyStore, MemoryStore
from mt5_bridge.simulator.books.store import BooksChangedError, Store
from mt5_bridge.simulator.broker import Broker
from mt5_bridge.simulator.config import PaperConfig, parse
from mt5_bridge.simulator.core.margin import to_money
from mt5_bridge.simulator.faults.injector import FaultInjector
from mt5_bridge.simulator.market.clock import Clock, ManualClock, SystemClock
from mt5_bridge.simulator.market.market import Market
from mt5_bridge.simulator.market.watch import MarketWatch
from mt5_bridge.simulator.trading.account import Account
from mt5_bridge.simulator.trading.session import Session

NO_CONNECTION = (c.RES_E_INTERNAL_FAIL_CONNECT, "No IPC connection")
AUTH_FAILED = (c.RES_E_AUTH_FAILED, "Terminal: Authorization failed")
NOT_FOUND = (c.RES_E_NOT_FOUND, "Terminal: Not found")
BAD_PARAMS = (c.RES_E_INVALID_PARAMS, "Terminal: Invalid params")
INIT_FAILED = "IPC initialize failed, "
RACES = 5
"""How often a step is judged anew because another process changed the account first."""


class TerminalError(Exception):
    """What `last_error` will say."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Terminal:
    """The whole paper terminal of a process. Not thread-safe: the caller takes one call at a time."""

    def __init__(self, config: PaperConfig, clock: Clock | None = None) -> None:
        self.config = config
        self.clock: Clock = clock or SystemClock()
        self.read_only = config.read_only
        self.autotrading = True
        """The toolbar's AutoTrading button."""
        self.faults = FaultInjector(config.seed)
        self.watch = MarketWatch(config.currency, lambda: self.market.specs, self._in_use)
        self.updates = 0
        """How often it has updated itself since it was first started."""
        self._market: Market | None = None
        self._session: Session | None = None
        self._ousted: Session | None = None
        """The own account's session, while another account answers the pipe."""
        self._memory: dict[Path, MemoryStore] = {}
        self._faults_read = False
        self._recalled: set[tuple[int, str]] | None = None
        """The accounts of which nothing is on its way since that was last asked for; None: it never was."""

    @property
    def connected(self) -> bool:
        return self._session is not None

    @property
    def market(self) -> Market:
        """The market; it begins when first asked for, unless `DATA_DIR` says it began earlier."""
        if self._market is None:
            self._market = Market(self.config, self.clock, self._anchor())
        return self._market

    @property
    def session(self) -> Session:
        """The logged-in account.

        Raises:
            TerminalError: -10004, not connected.
        """
        if self._session is None:
            raise TerminalError(*NO_CONNECTION)
        return self._session

    def require_session(self) -> None:
        """Does nothing where an account is logged in.

        Raises:
            TerminalError: -10004, not connected.
        """
        if self._session is None:
            raise TerminalError(*NO_CONNECTION)

    def initialize(self, login: int | None, password: str | None, server: str | None) -> None:
        """Connects and logs in: to the configured account where none is named. A second call reconnects.

        Raises:
            TerminalError: -6 for a wrong password, -10003 where state, tick files or faults cannot be used.
        """
        self.shutdown()
        try:
            if self.config.faults is not None and not self._faults_read:
                self.faults.load(self.config.faults)
                self._faults_read = True
            configured = login is None or login == self.config.login
            self._session = self._open(
                self.config.login if login is None else login,
                self.config.password if password is None and configured else password or "",
                server or self.config.server,
            )
        except (SettingsError, PaperStateError, OSError, sqlite3.Error) as error:
            raise TerminalError(c.RES_E_INTERNAL_FAIL_INIT, INIT_FAILED + str(error)) from error

    def login(self, login: int, password: str | None, server: str | None) -> None:
        """Changes the account; without a password the stored one counts, as the terminal saves it.

        Raises:
            TerminalError: -10004 without a connection, -6 for a wrong password. The old session stays.
        """
        current = self.session
        server = server or current.server
        if password is None:
            password = self.config.password if login == self.config.login else None
        try:
            session = self._open(login, password, server)
        except (SettingsError, PaperStateError, OSError, sqlite3.Error) as error:
            raise TerminalError(c.RES_E_FAIL, str(error)) from error
        self.shutdown()
        self._session = session

    def restart(self) -> None:
        """Closes the program for an update: every connection is gone."""
        self.shutdown()
        self.updates += 1

    def admit_impostor(self, login: int, server: str) -> None:
        """Lets another terminal, with another account, answer the pipe until the next connection.

        Args:
            login: its account; 0: the next number.
            server: its server; empty: the same.

        Raises:
            TerminalError: there is no connection that could be taken over.
        """
        self.dismiss_impostor()
        own = self.session
        impostor = self._open(login or own.login + 1, None, server or own.server, kept=False)
        self._session, self._ousted = impostor, own

    def dismiss_impostor(self) -> None:
        """The own account answers again."""
        if self._ousted is not None:
            if self._session is not None:
                self._session.close()
            self._session, self._ousted = self._ousted, None
            self._session.engine.reset()  # it was told of no tick given by hand meanwhile

    def shutdown(self) -> None:
        """Disconnects. The market goes on."""
        self.dismiss_impostor()
        if self._session is not None:
            self._session.close()
            self._session = None

    def recall(self) -> None:
        """Takes back what is on its way to the server: of the account logged in now, of others when they log in.

        Raises:
            sqlite3.Error: the store cannot be written.
        """
        self._recalled = set()
        if self._session is not None:
            self._take_back(self._session)

    def close(self) -> None:
        """Ends the terminal: accounts without a folder are gone."""
        self.shutdown()
        self._memory.clear()

    def synced(self) -> tuple[Session, int]:
        """The session with all of the market's ticks up to now worked off, and now (UTC, ms).

        Raises:
            TerminalError: not connected, or the books cannot be written.
        """
        session = self.session
        now = self.clock.now()
        account = session.account
        for _ in range(RACES):
            try:
                if account.follow():
                    session.engine.reset()
                if self.read_only:
                    account.msc = now
                else:
                    session.work_off(now)
            except BooksChangedError:
                session.engine.reset()
            except (sqlite3.Error, PaperStateError) as error:
                session.engine.reset()
                raise TerminalError(c.RES_E_FAIL, f"Terminal: Call failed ({error})") from error
            else:
                return session, now
        raise TerminalError(c.RES_E_FAIL, "Terminal: Call failed (another process keeps changing the account)")

    def is_selected(self, symbol: str) -> bool:
        """In Market Watch, seen or unseen: it has prices."""
        return symbol in self.watch

    def _in_use(self, symbol: str) -> bool:
        if self._session is None:
            return False
        ledger = self._session.account.ledger
        return symbol in ledger.by_symbol or any(order.symbol == symbol for order in ledger.orders.values())

    def _anchor(self) -> int:
        now = self.clock.now()
        folder = self._folder()
        return now if folder is None else market_anchor(folder, now, read_only=self.read_only)

    def _folder(self) -> Path | None:
        return None if self.config.data_dir is None else self.config.data_dir / "paper"

    def _open(self, login: int, password: str | None, server: str, *, kept: bool = True) -> Session:
        config = self.config
        market = self.market
        folder = self._folder() if kept else None
        path = account_file(folder or Path(), login, server, config.currency, config.margin_mode.value)
        store = self._store(path if folder else None, path)
        try:
            founded = store.is_new and self._found(store, login, server, password or "")
            investor = not founded and _admit(store, password)
            account = self._account(store)
            _recognise(account, market)
            session = Session(login, server, market, account, seed=config.seed, investor=investor)
            self._take_back(session)
        except BaseException:
            store.release()
            raise
        return session

    def _take_back(self, session: Session) -> None:
        if self._recalled is None or self.read_only or session.identity in self._recalled:
            return
        session.account.recall()
        self._recalled.add(session.identity)

    def _account(self, store: AnyStore) -> Account:
        config = self.config
        return Account(
            self.market, store, config.margin_mode, config.currency, config.leverage, config.broker.account
        )  # fmt: skip

    def _store(self, path: Path | None, name: Path) -> AnyStore:
        """The account's file; without one, a store that lives as long as the terminal.

        One who only reads gets such a store, too, while the account he is to show has not been opened.
        """
        if path is not None and (path.exists() or not self.read_only):
            store = Store(path, read_only=self.read_only)
            if not (self.read_only and store.is_new):
                return store
            store.release()
        if name not in self._memory:
            self._memory[name] = MemoryStore()
        return self._memory[name]

    def _found(self, store: AnyStore, login: int, server: str, password: str) -> bool:
        """Opens a new account, whole or not at all: its first deal is the deposit. False: another process was first."""
        config, market = self.config, self.market
        account = self._account(store)
        now = market.now()
        account.ledger.deposit(config.balance, market.server_time(now))
        investor = config.broker.account.investor_password
        sealed = [("investor", secret.seal(investor))] if investor else []
        try:
            store.commit(
                account.ledger.take_change(), account.ledger, now,
                (*sealed, ("password", secret.seal(password)), ("server", escaped(server)), ("login", str(login))),
            )  # fmt: skip
        except BooksChangedError:
            return False
        return True


def _recognise(account: Account, market: Market) -> None:
    held = {*account.ledger.by_symbol, *(order.symbol for order in account.ledger.orders.values())}
    strange = sorted(held - market.feeds.keys())
    if strange:
        raise SettingsError(
            f"the account holds {', '.join(strange)}, which this market has not: "
            "give PAPER_TICKS and PAPER_SYMBOL_SUFFIX as before, or take another DATA_DIR"
        )


def _admit(store: AnyStore, password: str | None) -> bool:
    """Whether it is the investor, who may only look."""
    if password is None:
        return False
    try:
        if secret.matches(password, store.get("password") or ""):
            return False
        if secret.matches(password, store.get("investor") or ""):
            return True
    except ValueError as error:
        raise store.refuse(f"password: {error}") from error
    raise TerminalError(*AUTH_FAILED)


def make(settings: Mapping[str, str], clock: str | Clock = "system", broker: Broker | None = None) -> Terminal:
    """Builds a terminal from settings by name.

    Args:
        settings: as people write them.
        clock: what the market's time is.
        broker: rules in place of a file's.

    Raises:
        SettingsError: a setting is wrong.
        ValueError: the clock is neither "system" nor "manual" nor a clock.
    """
    if isinstance(clock, str):
        if clock not in ("system", "manual"):
            raise ValueError(f'clock is "system" or "manual", not {clock!r}')
        clock = ManualClock() if clock == "manual" else SystemClock()
    config = parse(settings)
    if config.balance != to_money(config.balance, config.currency):
        raise SettingsError(
            f"PAPER_BALANCE: {config.balance} has more decimals than {config.currency}; give one such as 10000"
        )
    return Terminal(config if broker is None else msgspec.structs.replace(config, broker=broker), clock)


MARGIN_MODES = {
    MarginMode.NETTING: c.ACCOUNT_MARGIN_MODE_RETAIL_NETTING,
    MarginMode.EXCHANGE: c.ACCOUNT_MARGIN_MODE_EXCHANGE,
    MarginMode.HEDGING: c.ACCOUNT_MARGIN_MODE_RETAIL_HEDGING,
}
