"""The bridge's picture of the account: positions, orders, the day, what is in flight. Read by every decision.

P9: an opening intent counts from before it is sent until a snapshot asked for after its outcome shows it; lists and
history may lag behind an answer. P8: the picture comes only from complete reads; a failed read leaves the old one
standing and says so.
"""

import asyncio
from collections.abc import Callable
from zoneinfo import ZoneInfo

import msgspec
from loguru import logger

from mt5_bridge.core import risk
from mt5_bridge.core.decision import Day, Exposure, Readiness
from mt5_bridge.core.errors import MT5DataError, MT5Error
from mt5_bridge.core.guards.assets import asset_class
from mt5_bridge.core.model import (
    AccountInfo,
    AssetClass,
    Deal,
    MarginMode,
    Order,
    OrderRequest,
    Position,
    Quote,
    Side,
    SymbolInfo,
    TerminalInfo,
)
from mt5_bridge.core.times import DAY, SECOND
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.ledger import DayLedger
from mt5_bridge.terminal.port import Priority, Snapshot, Terminal

_DEAL_OVERLAP_MS = 5 * SECOND
_DEALS_LAG_MS = 5 * SECOND
"""How long after a change the day's deals are read with every refresh: history lags behind the lists."""
_SHOWN_WITHIN_MS = 5 * SECOND
"""An opening with a known outcome that no list shows after this long is gone again already."""
_RISK_CACHE_MAX = 4096
_SPACING_S = 0.05
"""Between reads that only follow a change: a burst of fills shares one, and the orders between them go first."""
_DEALS_WHOLE_MS = 1 * SECOND
_DEALS_SPACING_MS = 250
"""The most between reads of the day's deals while they go on coming; 1 ms for every one read again beyond the few."""
_DEALS_FREE = 10


class Change(msgspec.Struct, frozen=True):
    """What one refresh found different from the one before."""

    opened: tuple[Position, ...] = ()
    closed: tuple[Position, ...] = ()
    changed: tuple[Position, ...] = ()
    placed: tuple[Order, ...] = ()
    gone: tuple[Order, ...] = ()
    account: bool = False
    deals: tuple[Deal, ...] = ()
    """Deals of the day not seen before."""

    @property
    def positions(self) -> bool:
        """True when any position differs."""
        return bool(self.opened or self.closed or self.changed)


class Book:
    """The account as last read, and what is not in it yet.

    Args:
        terminal: where it is read.
        clock: time.
        zone: TRADING_DAY_TIMEZONE.
    """

    def __init__(self, terminal: Terminal, clock: Clock, zone: ZoneInfo) -> None:
        self._terminal = terminal
        self._clock = clock
        self._zone = zone
        self.account: AccountInfo | None = None
        self.terminal_info: TerminalInfo | None = None
        self.positions: dict[int, Position] = {}
        self.orders: dict[int, Order] = {}
        self.listed_positions: tuple[Position, ...] = ()
        self.listed_orders: tuple[Order, ...] = ()
        self.quotes: dict[str, Quote] = {}
        self.symbols: dict[str, SymbolInfo] = {}
        self.classes: dict[str, AssetClass] = {}
        """Asset classes of the symbols whose rules are known."""
        self.day: Day | None = None
        self.complete_reads = 0
        self.read_msc = 0
        self.reconciled = asyncio.Event()
        self.journal_healthy = True
        self._names: dict[str, str] = {}
        self._exposures: dict[int, Exposure] = {}
        self._settled: dict[int, tuple[int, int]] = {}
        self._changes: dict[int, tuple[OrderRequest, int | None]] = {}
        """Magic → a change that raises risk, and the last read begun before its outcome was known; None: it is not."""
        self._held: frozenset[int] = frozenset()
        self._listed: frozenset[int] = frozenset()
        self._blocked: dict[str, str] = {}
        self._ledger = DayLedger()
        self._asks = 0
        self._reads = 0
        self._last: tuple[int, int, Snapshot] | None = None
        """The picture: the number of its read, the last of those who asked before it, what it showed."""
        self._ended = float("-inf")
        self._deals_until_msc = 0
        self._deals_due_msc = 0
        self._deals_whole_msc = 0
        self._earlier: tuple[Deal, ...] | None = None
        self._sharers: list[asyncio.Future[None]] | None = None
        """Who waits for a spaced read that has not begun; None: there is none."""
        self._locks = {urgent: asyncio.Lock() for urgent in (True, False)}
        self._listeners: list[Callable[[Change], None]] = []
        self._risk_cache: dict[tuple[str, str, float, float, float], float] = {}

    # --- reading the terminal

    async def refresh(self, *, priority: Priority = Priority.HIGH, spaced: bool = False) -> Snapshot:
        """Read everything anew, in one round trip (two when the day's deals may have changed).

        Those who ask while a read is under way share the next one: what it shows is no older than any of them.
        A CRITICAL read waits for no other: whichever was asked for later is the picture.

        Args:
            priority: among the terminal's calls.
            spaced: a few ms later will do, so that others can share it; its priority is HIGH.

        Raises:
            MT5Error: nothing was read; the picture stays as it was.
        """
        self._asks += 1
        if spaced:
            return await self._refresh_shared(self._asks)
        return await self._refresh(self._asks, priority)

    @property
    def about_to_read(self) -> bool:
        """Whether a spaced read was asked for and has not begun: it will show what is true now."""
        return self._sharers is not None

    async def _refresh_shared(self, asked: int) -> Snapshot:
        """One of those who ask waits and reads, the others wait for that one."""
        while self._sharers is not None and not self._shows(asked):
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sharers.append(place)
            await place
        if self._last is not None and self._shows(asked):
            return self._last[2]
        sharers = self._sharers = []
        failure: MT5Error | None = None
        try:
            try:
                if (wait := self._ended + _SPACING_S - self._clock.monotonic()) > 0:
                    await asyncio.sleep(wait)
            finally:
                self._sharers = None
            return await self._refresh(asked, Priority.HIGH)
        except MT5Error as error:
            failure = error
            raise
        finally:
            for place in sharers:
                if not place.done():
                    # Of a reader that was cancelled nothing came: the next one of them reads.
                    place.set_result(None) if failure is None else place.set_exception(failure)

    def _shows(self, asked: int) -> bool:
        return self._last is not None and self._last[1] >= asked

    async def _refresh(self, asked: int, priority: Priority) -> Snapshot:
        async with self._locks[priority is Priority.CRITICAL]:
            if self._last is not None and self._last[1] >= asked:
                return self._last[2]
            self._reads += 1
            read, serves = self._reads, self._asks
            snapshot = await self._terminal.snapshot(priority=priority)
            deals: tuple[Deal, ...] = ()
            if self._wants_deals(self._difference(snapshot)):
                deals = await self._read_deals(priority)
            if self._last is not None and self._last[0] > read:
                change, snapshot = Change(deals=deals), self._last[2]
                self._roll_day(snapshot.account)  # by its deals, which are no older for that
            else:
                change = msgspec.structs.replace(self._difference(snapshot), deals=deals)
                self._apply(snapshot, read)
                self._last = (read, serves, snapshot)
            self._ended = self._clock.monotonic()
        if change != Change():
            for listener in self._listeners:
                listener(change)
        return snapshot

    def on_change(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` with what each refresh found different."""
        self._listeners.append(listener)

    async def resolve(self, name: str) -> str:
        """The terminal's name of a symbol as a backend writes it.

        Raises:
            MT5Error: ambiguous (`MT5ValidationError`), or the terminal cannot be asked.
        """
        if name not in self._names:
            self._names[name] = await self._terminal.resolve_symbol(name)
        return self._names[name]

    async def symbol(self, name: str, *, anew: bool = False) -> SymbolInfo | None:
        """A symbol's rules, None when the terminal does not know it.

        Args:
            name: as the terminal has it.
            anew: not as they were once: a broker changes its levels over the day.

        Raises:
            MT5Error: the terminal cannot be asked.
        """
        if anew or name not in self.symbols:
            try:
                info = await self._terminal.get_symbol(name)
            except MT5DataError as error:
                if error.code == -4:
                    return None
                raise
            self.symbols[name], self.classes[name] = info, asset_class(info)
        return self.symbols[name]

    async def risks(self) -> dict[int, float | None]:
        """Loss to the stop of every position and pending order by ticket, account currency; None without a stop.

        Raises:
            MT5Error: the terminal cannot be asked.
        """
        found: dict[int, float | None] = {}
        for position in tuple(self.positions.values()):
            stops = [position.stop_loss, *(r.stop_loss for r in self._changing(position.ticket))]
            at = (position.side, position.symbol, position.volume)
            found[position.ticket] = await self._worst(at, [(position.price_open, stop) for stop in stops])
        for order in tuple(self.orders.values()):
            levels = [(order.stop_limit_price or order.price, order.stop_loss)]
            levels += [(r.stop_limit_price or r.price, r.stop_loss) for r in self._changing(order.ticket)]
            at = (order.type.side, order.symbol, order.volume_current)
            found[order.ticket] = await self._worst(at, levels)
        return found

    def _changing(self, ticket: int) -> list[OrderRequest]:
        return [r for r, _ in self._changes.values() if ticket == (r.position or r.order)]

    async def _worst(self, at: tuple[Side, str, float], levels: list[tuple[float, float]]) -> float | None:
        """The largest risk of what is, and of what it may be about to become."""
        risks = [await self._risk(*at, opened, stop) for opened, stop in levels]
        known = [risk for risk in risks if risk is not None]
        return max(known) if len(known) == len(risks) else None

    # --- what is in flight

    def reserve(self, exposure: Exposure) -> None:
        """Count an opening before it is sent."""
        self._exposures[exposure.magic] = exposure
        self._settled.pop(exposure.magic, None)

    def mark_unknown(self, magic: int) -> None:
        """Its outcome is unknown: it goes on counting, and blocks openings on its symbol."""
        if magic in self._exposures:
            self._exposures[magic] = msgspec.structs.replace(self._exposures[magic], unknown=True)

    def settle(self, magic: int) -> None:
        """Its outcome is known: it counts until a snapshot asked for from now on shows it."""
        if magic in self._exposures:
            self._exposures[magic] = msgspec.structs.replace(self._exposures[magic], unknown=False)
            self._settled[magic] = (self._reads, self._clock.now_ms())

    def release(self, magic: int) -> None:
        """It never left: it stops counting now."""
        self._exposures.pop(magic, None)
        self._settled.pop(magic, None)

    def change(self, request: OrderRequest) -> None:
        """A stop or price is about to be changed: the risk of that counts from before it is sent."""
        self._changes[request.magic] = (request, None)

    def changed(self, magic: int) -> None:
        """What came of it is known: a snapshot asked for from now on shows it."""
        if magic in self._changes:
            self._changes[magic] = (self._changes[magic][0], self._reads)

    def in_flight(self, *, but: int = 0) -> tuple[Exposure, ...]:
        """What counts though no list shows it yet, except the magic `but`. An unknown counts until it is resolved."""
        return tuple(
            exposure
            for magic, exposure in self._exposures.items()
            if magic != but and (exposure.unknown or magic not in self._listed)
        )

    @property
    def day_so_far(self) -> Day | None:
        """The day without the trades that `in_flight` counts, and with those listed whose deals are still to be read.

        Each of them counts once.
        """
        if self.day is None or not self._exposures:
            return self.day
        flying = {exposure.magic for exposure in self.in_flight()}
        held = self._held & self._exposures.keys() - flying
        more = sum(not self._ledger.has(magic) for magic in held) - len(self._ledger.orders_of(flying))
        return msgspec.structs.replace(self.day, trades=max(0, self.day.trades + more))

    @property
    def deals_since_msc(self) -> int:
        """From when on the day's deals are read, UTC ms."""
        return self._ledger.start_msc

    def over(self, magic: int) -> bool:
        """Whether history tells that what an opening with this magic opened is closed again, in part at least."""
        return self._ledger.closed(self._ledger.opened(magic))

    def block(self, symbol: str, why: str) -> None:
        """Nothing opens on the symbol until the terminal connects anew or the next trading day begins."""
        self._blocked[symbol] = why

    @property
    def blocked(self) -> frozenset[str]:
        """Symbols on which nothing may open."""
        return frozenset(self._blocked) | {e.symbol for e in self._exposures.values() if e.unknown}

    # --- what decisions ask

    @property
    def readiness(self) -> Readiness:
        """Whether the terminal can trade, as far as the last read tells."""
        account, terminal = self.account, self.terminal_info
        if account is None or terminal is None:
            return Readiness(reconciled=self.reconciled.is_set(), journal_healthy=self.journal_healthy)
        return Readiness(
            reconciled=self.reconciled.is_set(),
            connected=terminal.connected,
            terminal_trade_allowed=terminal.trade_allowed,
            api_allowed=not terminal.tradeapi_disabled,
            account_trade_allowed=account.trade_allowed,
            expert_trade_allowed=account.trade_expert,
            journal_healthy=self.journal_healthy,
        )

    def note(self, account: AccountInfo, terminal: TerminalInfo) -> None:
        """A fresher account and terminal, read beside something else."""
        self.account, self.terminal_info = account, terminal

    def refused(self, *, by_server: bool) -> None:
        """An order was refused because automated trading is off: not ready until a read says otherwise."""
        if by_server and self.account is not None:
            self.account = msgspec.structs.replace(self.account, trade_expert=False)
        if not by_server and self.terminal_info is not None:
            self.terminal_info = msgspec.structs.replace(self.terminal_info, trade_allowed=False)

    @property
    def account_name(self) -> str:
        """Login and server; empty while they are not known."""
        return "" if self.account is None else f"{self.account.login}@{self.account.server}"

    @property
    def connected(self) -> bool:
        """Whether the terminal was connected to its server at the last read: without it, lists may be empty."""
        return self.terminal_info is not None and self.terminal_info.connected

    @property
    def netting(self) -> bool:
        """One position a symbol."""
        return self.account is not None and self.account.margin_mode is not MarginMode.HEDGING

    def lost_connection(self) -> None:
        """The terminal went away: until it is reconciled again nothing trades."""
        self.reconciled.clear()
        self._names.clear()
        self._blocked.clear()
        self.symbols.clear()

    def restore_day(self, day: Day | None) -> None:
        """The day as a former run of the bridge knew it, or with what a person accepted."""
        self.day = day

    # --- inside

    def _difference(self, new: Snapshot) -> Change:
        positions = {position.ticket: position for position in new.positions}
        orders = {order.ticket: order for order in new.orders}
        old = self.account
        return Change(
            opened=tuple(p for t, p in positions.items() if t not in self.positions),
            closed=tuple(p for t, p in self.positions.items() if t not in positions),
            changed=tuple(p for t, p in positions.items() if t in self.positions and _moved(self.positions[t], p)),
            placed=tuple(o for t, o in orders.items() if t not in self.orders),
            gone=tuple(o for t, o in self.orders.items() if t not in orders),
            account=old is None or old.balance != new.account.balance or old.credit != new.account.credit,
        )

    def _wants_deals(self, change: Change) -> bool:
        now = self._clock.now_ms()
        if change != Change():
            self._deals_until_msc = now + _DEALS_LAG_MS
        if self.day is None or self.day.date != risk.trading_day(now, self._zone):
            return True
        wanted = self.day.balance is None or bool(self._settled) or now < self._deals_until_msc
        return wanted and not now < self._deals_due_msc <= now + _DEALS_SPACING_MS

    def _apply(self, snapshot: Snapshot, read: int) -> None:
        self.account, self.terminal_info = snapshot.account, snapshot.terminal
        self.positions = {position.ticket: position for position in snapshot.positions}
        self.orders = {order.ticket: order for order in snapshot.orders}
        self.listed_positions, self.listed_orders = tuple(snapshot.positions), tuple(snapshot.orders)
        self.complete_reads += 1
        self.read_msc = self._clock.now_ms()
        self._held = frozenset(position.magic for position in snapshot.positions)
        self._listed = self._held | {order.magic for order in snapshot.orders}
        for magic, (after, since) in tuple(self._settled.items()):
            if read > after and (self._shown(magic) or self._clock.now_ms() - since >= _SHOWN_WITHIN_MS):
                self.release(magic)
                self._count_before_history(magic)
        self._changes = {m: (r, after) for m, (r, after) in self._changes.items() if after is None or read <= after}
        self._roll_day(snapshot.account)

    def _count_before_history(self, magic: int) -> None:
        """A fill that the lists show and history does not yet is a trade of the day all the same."""
        if self.day is not None and magic in self._held and not self._ledger.has(magic):
            self.day = risk.count_trade(self.day)

    def _shown(self, magic: int) -> bool:
        """Whether the lists contain an opening, or history tells that it is over already."""
        if magic in self._listed:
            return True
        opened = self._ledger.opened(magic)
        if self._ledger.closed(opened):
            return True
        # On netting the position has the magic of who opened it first; the lists may lag behind the history, too.
        return self.netting and any((p.identifier or p.ticket) in opened for p in self.listed_positions)

    async def _read_deals(self, priority: Priority) -> tuple[Deal, ...]:
        """Read the day's deals into the ledger, the next day's when it begins meanwhile; returns what is new."""
        fresh = await self._read_deals_once(priority)
        while self._ledger.start_msc != risk.day_start_msc(self._clock.now_ms(), self._zone):
            fresh += await self._read_deals_once(priority)
        return fresh

    async def _read_deals_once(self, priority: Priority) -> tuple[Deal, ...]:
        now = self._clock.now_ms()
        start = risk.day_start_msc(now, self._zone)
        if start != self._ledger.start_msc:
            self._ledger = DayLedger(start)
        # History lags: now and then a look further back, and a shorter one in between.
        whole = not 0 <= now - self._deals_whole_msc < _DEALS_WHOLE_MS
        overlap = _DEAL_OVERLAP_MS if whole else _DEALS_WHOLE_MS
        since = max(start, self._ledger.latest_msc - overlap)
        before = self.day
        # What was paid in or out while the bridge was off is no loss: read from where the last known day began.
        unseen = (
            before is not None and 0 < before.start_msc < start and before.date != risk.trading_day(now, self._zone)
        )
        if unseen and before is not None:
            since = before.start_msc
        deals = await self._terminal.get_history_deals(since, now + DAY, priority=priority)
        self._deals_due_msc = now + min(max(0, len(deals) - _DEALS_FREE), _DEALS_SPACING_MS)
        self._deals_whole_msc = now if whole else self._deals_whole_msc
        self._earlier = tuple(d for d in deals if d.time_msc < start) if unseen else None
        return self._ledger.add(deals)

    def _roll_day(self, account: AccountInfo) -> None:
        if self.terminal_info is None or not self.terminal_info.connected:
            return  # without its server a terminal may show an account of nothing: no day begins with that
        now = self._clock.now_ms()
        date = risk.trading_day(now, self._zone)
        before = self.day
        if before is None or before.date != date:
            if self._ledger.start_msc != risk.day_start_msc(now, self._zone):
                return  # it began this moment: its deals are still to be read
            self._blocked.clear()
            self.day = risk.rebuild(
                date=date,
                dealt=self._ledger.totals,
                balance=account.balance,
                equity=account.equity,
                credit=account.credit,
                before=before,
                earlier=self._earlier,
                start_msc=risk.day_start_msc(now, self._zone),
            )
            logger.bind(event="trading_day", date=date, trades=self.day.trades).info(
                "Trading day {date}: {trades} trades so far, equity at start {equity:.2f}",
                date=date,
                trades=self.day.trades,
                equity=self.day.start_equity,
            )
        else:
            self.day = risk.observe(
                before,
                dealt=self._ledger.totals,
                equity=account.equity,
                balance=account.balance,
                credit=account.credit,
            )

    async def _risk(self, side: Side, symbol: str, volume: float, opened: float, stop: float) -> float | None:
        if stop <= 0:
            return None
        key = (side.value, symbol, volume, opened, stop)
        if key not in self._risk_cache:
            if len(self._risk_cache) >= _RISK_CACHE_MAX:
                self._risk_cache.clear()
            profit = await self._terminal.calc_profit(side, symbol, volume, opened, stop)
            self._risk_cache[key] = max(0.0, -profit)
        return self._risk_cache[key]


def _moved(old: Position, new: Position) -> bool:
    """Whether a position changed for its owner; its running profit and price do not count."""
    return (old.volume, old.stop_loss, old.take_profit, old.side, old.price_open, old.swap) != (
        new.volume,
        new.stop_loss,
        new.take_profit,
        new.side,
        new.price_open,
        new.swap,
    )


async def read_retrying(book: Book, *, priority: Priority, pause_s: float) -> Snapshot:
    """Refresh until it succeeds."""
    while True:
        try:
            return await book.refresh(priority=priority)
        except MT5Error as error:
            logger.bind(event="refresh_failed").warning("The account cannot be read: {error}", error=error)
            await asyncio.sleep(pause_s)
