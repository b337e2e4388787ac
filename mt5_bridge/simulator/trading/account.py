"""One account at work: its books, its store, and what it is worth at current prices."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import NamedTuple

from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.books.memory import AnyStore
from mt5_bridge.simulator.broker import AccountRules
from mt5_bridge.simulator.core import margin as formulas
from mt5_bridge.simulator.core import swaps
from mt5_bridge.simulator.core.conversion import Converter, Prices
from mt5_bridge.simulator.core.exposure import Exposure, Exposures, Worth
from mt5_bridge.simulator.core.ledger import Ledger
from mt5_bridge.simulator.core.margin import Leg, Waiting
from mt5_bridge.simulator.core.records import Order, Position
from mt5_bridge.simulator.core.rules import PENDING_TYPES
from mt5_bridge.simulator.market.catalogue import SymbolSpec
from mt5_bridge.simulator.market.market import Market, Quote


class Valuation(NamedTuple):
    """Account money. `level` is in percent, 0 without margin; `assets` are what collateral is worth."""

    profit: float
    equity: float
    margin: float
    free: float
    level: float
    assets: float = 0.0


class Pricer(NamedTuple):
    """Values positions of one symbol. The rates convert profit currency at the bid and at the ask."""

    spec: SymbolSpec
    quote: Quote
    gains: tuple[float, float]
    losses: tuple[float, float]
    digits: int
    per_price: float

    def profit(self, position: Position) -> float:
        """Floating profit, rounded to the account's decimals."""
        side = position.type
        move = position.price_open - self.quote.ask if side else self.quote.bid - position.price_open
        raw = move * self.per_price * position.volume
        return round(raw * (self.gains if raw > 0 else self.losses)[side], self.digits)


class Account:
    """The money side: converts, values, commits."""

    def __init__(
        self, market: Market, store: AnyStore, mode: MarginMode, currency: str, leverage: int,
        rules: AccountRules = AccountRules(),  # noqa: B008 - frozen
    ) -> None:  # fmt: skip
        self.market = market
        self.store = store
        self.mode = mode
        self.currency = currency
        self.leverage = leverage
        self.rules = rules
        self.digits = formulas.currency_digits(currency)
        self.msc = market.now()
        """The moment (UTC) at which prices are taken: that of the tick or request being worked on."""
        self._converter = Converter({name: feed.spec for name, feed in market.feeds.items()}, self._prices)
        self.ledger = Ledger(mode, self)
        self.processed_msc = store.load(self.ledger)
        self._issued = self.ledger.next_ticket
        """The next ticket that the store knows of."""
        self._exposures = Exposures(self.ledger)
        self._rate_symbols: dict[str, tuple[str, ...]] = {}
        self._convertible: set[str] = set()
        self._reserving = {name for name, feed in market.feeds.items() if formulas.pendings_reserve(feed.spec)}
        self._conversions: dict[tuple[int, float], float] = {}
        """Of pendings that reserve margin, by ticket and price."""

    # What the ledger asks for (`ledger.Money`).

    def profit(self, symbol: str, order_type: int, volume: float, price_open: float, price_close: float) -> Decimal:
        """Realised profit: converted at the closing price where the symbol itself is the exchange rate."""
        spec = self.spec(symbol)
        amount = formulas.exact_profit(spec, order_type, volume, price_open, price_close)
        if spec.currency_profit != self.currency:
            amount *= Decimal(repr(self.profit_rate(symbol, price_close, gain=amount > 0, side=order_type)))
        return formulas.to_money(amount, self.currency)

    def margin_rate(self, symbol: str, order_type: int, price: float) -> float:
        """Account money per unit of margin currency: bought at the ask by buys, at the bid by sells, or at `price`."""
        rate = self._converter.rate(
            self.spec(symbol).currency_margin, self.currency, selling=order_type % 2 == 1, known={symbol: price}
        )
        return 1.0 if rate is None else rate

    def profit_rate(self, symbol: str, price_close: float, *, gain: bool, side: int | None = None) -> float:
        """Account money per unit of profit currency, when a position of `side` closes (None: of money as such).

        Forex converts "by deal", at the ask for longs and the bid for shorts; everything else sells a gain and buys a
        loss (MetaTrader 5 help, "Profit Calculation", section "Conversion to the Deposit Currency").
        """
        spec = self.spec(symbol)
        by_deal = side is not None and spec.calc_mode in formulas.FOREX_MODES
        selling = side == c.POSITION_TYPE_SELL if by_deal else gain
        rate = self._converter.rate(spec.currency_profit, self.currency, selling=selling, known={symbol: price_close})
        return 1.0 if rate is None else rate

    def commission(self, symbol: str, side: int, entry: int, volume: float, price: float) -> Decimal:
        """What a deal costs beside the spread; not above 0."""
        spec = self.spec(symbol)
        skipped = {c.DEAL_ENTRY_IN: "out", c.DEAL_ENTRY_OUT: "in", c.DEAL_ENTRY_OUT_BY: "in"}.get(entry)
        if not spec.commission or spec.commission_entry == skipped:
            return Decimal(0)
        amount = Decimal(repr(spec.commission))
        if spec.commission_mode == "lot":
            amount *= Decimal(repr(volume))
        elif spec.commission_mode == "percent":
            amount *= formulas.deal_value(spec, volume, price) / 100
            amount *= Decimal(repr(self.profit_rate(symbol, price, gain=False, side=side)))
        return -formulas.to_money(amount, self.currency)

    def swap(self, position: Position, count: float) -> Decimal:
        """What a position pays (negative) or gets for `count` nights, at the prices of `msc`."""
        spec, side = self.spec(position.symbol), position.type
        prices = self._prices(position.symbol)
        if prices is None:
            return Decimal(0)
        amount, currency, times = swaps.one_night(spec, side, position.volume, position.price_open, prices[side])
        if currency is None:
            rate = 1.0
        elif spec.swap_mode == c.SYMBOL_SWAP_MODE_POINTS:
            rate = self.profit_rate(position.symbol, prices[side], gain=amount * times > 0, side=side)
        else:
            rate = self._swap_rate(spec, side, currency, amount)
        paid = formulas.to_money(Decimal(repr(amount)) * Decimal(repr(rate)), self.currency)
        return formulas.to_money(paid * Decimal(repr(times)) * Decimal(repr(count)), self.currency)

    def _swap_rate(self, spec: SymbolSpec, side: int, currency: str, amount: float) -> float:
        """Interest converts at the bid for longs and the ask for shorts, money at the price worse for the trader."""
        interest = spec.swap_mode in (c.SYMBOL_SWAP_MODE_INTEREST_CURRENT, c.SYMBOL_SWAP_MODE_INTEREST_OPEN)
        selling = side == c.POSITION_TYPE_BUY if interest else amount > 0
        rate = self._converter.rate(currency, self.currency, selling=selling)
        return 1.0 if rate is None else rate

    def convert(self, amount: float, currency: str) -> float:
        """Account money for an amount of `currency`: sold if positive, bought if negative."""
        rate = self._converter.rate(currency, self.currency, selling=amount > 0)
        return amount * (1.0 if rate is None else rate)

    def convertible(self, symbol: str) -> bool:
        """Whether the symbol's margin and profit can be turned into account money now."""
        if symbol in self._convertible:
            return True
        spec = self.spec(symbol)
        rates = [
            self._converter.rate(currency, self.currency, selling=True)
            for currency in (spec.currency_margin, spec.currency_profit)
        ]
        if None in rates:
            return False
        self._convertible.add(symbol)  # a symbol that had a quote has one ever after
        return True

    def rate_symbols(self, symbol: str) -> tuple[str, ...]:
        """The symbols whose prices turn what the symbol's positions bring into account money."""
        found = self._rate_symbols.get(symbol)
        if found is None:
            found = self._rate_symbols[symbol] = self._converter.symbols(
                self.spec(symbol).currency_profit, self.currency
            )
        return found

    def spec(self, symbol: str) -> SymbolSpec:
        """The symbol's rules."""
        return self.market.feeds[symbol].spec

    # Margin.

    def margin(self, symbol: str, order_type: int, volume: float, price: float) -> float:
        """Margin for an order of `volume` lots at `price`, as if nothing else were open; unrounded."""
        raw = formulas.raw_margin(self.spec(symbol), volume, price, self.leverage, order_type)
        return raw * self.margin_rate(symbol, order_type, price)

    def additional_margin(self, symbol: str, side: int, volume: float, price: float) -> float:
        """How much must be free to open `volume` lots beside what is open; at least 0."""
        spec, held = self.spec(symbol), self.exposures().get(symbol)
        order = Leg(volume, volume * price, volume * self.margin_rate(symbol, side, price))
        legs = held.legs if held is not None else (Leg(), Leg())
        if self.mode is MarginMode.HEDGING:
            return formulas.hedging_need(spec, legs, side, order, self.leverage, before=self._symbol_margin(symbol, []))
        held_side = 0 if legs[0].lots else 1
        return formulas.netting_need(spec, legs[held_side], held_side, side, order, self.leverage)

    def total_margin(self) -> float:
        """Margin of everything open or waiting."""
        held = self.exposures()
        reserves = self._with_reserves()
        if not reserves:
            return sum([one.margin or self._symbol_margin(symbol, []) for symbol, one in held.items()], 0.0)
        symbols = {**held, **dict.fromkeys(reserves)}
        return sum([self._symbol_margin(symbol, self._waiting(symbol)) for symbol in symbols], 0.0)

    def waiting_margin(self) -> float:
        """What pending orders add to the margin of what is open."""
        return sum(
            (
                self._symbol_margin(symbol, self._waiting(symbol)) - self._symbol_margin(symbol, [])
                for symbol in self._with_reserves()
            ),
            0.0,
        )

    def order_margin(self, order: Order) -> float:
        """What one pending order adds to the margin."""
        if order.symbol not in self._reserving or order.type not in PENDING_TYPES:
            return 0.0
        return self._added(order.symbol, self._as_waiting(order), skip=order.ticket)

    def reserve(self, symbol: str, kind: int, volume: float, price: float) -> float:
        """What a pending order would add to the margin."""
        if symbol not in self._reserving:
            return 0.0
        return self._added(symbol, Waiting(kind, volume, price, self.margin_rate(symbol, kind, price)))

    def _added(self, symbol: str, one: Waiting, skip: int = 0) -> float:
        others = self._waiting(symbol, skip)
        return self._symbol_margin(symbol, [*others, one]) - self._symbol_margin(symbol, others)

    def _symbol_margin(self, symbol: str, waiting: list[Waiting]) -> float:
        held = self.exposures().get(symbol)
        if waiting or held is None:
            legs = held.legs if held is not None else (Leg(), Leg())
            hedging = self.mode is MarginMode.HEDGING
            return formulas.symbol_margin(self.spec(symbol), legs, waiting, self.leverage, hedging=hedging)
        if held.margin is None:
            held.margin = formulas.legs_margin(self.spec(symbol), held.legs, self.leverage)
        return held.margin

    def _with_reserves(self) -> set[str]:
        if not self._reserving:
            return set()
        return {order.symbol for order in self.ledger.orders.values()} & self._reserving

    def _waiting(self, symbol: str, skip: int = 0) -> list[Waiting]:
        if symbol not in self._reserving:
            return []
        return [
            self._as_waiting(order)
            for order in self.ledger.orders.values()
            if order.symbol == symbol and order.ticket != skip and order.type in PENDING_TYPES
        ]

    def _as_waiting(self, order: Order) -> Waiting:
        """The order with the exchange rate of when it was placed, which a later look must not change."""
        price = order.price_stoplimit or order.price_open
        rate = self._conversions.get((order.ticket, price))
        if rate is None:
            msc, self.msc = self.msc, self.market.utc(order.time_setup_msc)
            rate = self._conversions[order.ticket, price] = self.margin_rate(order.symbol, order.type, price)
            self.msc = msc
        return Waiting(order.type, order.volume_current, price, rate)

    # Valuation.

    def pricer(self, symbol: str) -> Pricer | None:
        """Prices the symbol's positions at the current quote; None without one."""
        quote = self.market.quote(symbol, self.msc)
        if quote is None:
            return None
        spec = self.spec(symbol)
        gains = losses = (1.0, 1.0)
        if spec.currency_profit != self.currency:
            gains, losses = (
                (
                    self.profit_rate(symbol, quote.bid, gain=gain, side=c.POSITION_TYPE_BUY),
                    self.profit_rate(symbol, quote.ask, gain=gain, side=c.POSITION_TYPE_SELL),
                )
                for gain in (True, False)
            )
        return Pricer(spec, quote, gains, losses, self.digits, formulas.price_value(spec))

    def valuation(self) -> Valuation:
        """The account now, position by position, so that profit is exactly their sum."""
        profit = swap = assets = 0.0
        for symbol, positions in self.ledger.by_symbol.items():
            pricer = self.pricer(symbol)
            for position in positions.values():
                profit += pricer.profit(position) if pricer is not None else 0.0
                swap += position.swap
            if pricer is not None:
                assets += self._assets(symbol, self.exposures()[symbol], pricer.quote.bid)
        return self._valued(round(profit, self.digits), round(swap, self.digits), round(assets, self.digits))

    def estimate(self) -> Valuation:
        """The account now, symbol by symbol: as `valuation` but for the rounding of each position, and quick."""
        profit = swap = assets = 0.0
        msc = self.msc
        for symbol, held in self.exposures().items():
            worth = held.worth
            if worth is None or not worth.since <= msc < worth.until:
                worth = self._worth(symbol, held)
            profit += worth.profit
            assets += worth.assets
            swap += held.swap
        return self._valued(profit, swap, assets)

    def worth(self, symbol: str, held: Exposure) -> float:
        """What a symbol's positions add to the equity: profit, swap, and the value of collateral."""
        found = held.worth
        if found is None or not found.since <= self.msc < found.until:
            found = self._worth(symbol, held)
        return found.profit + found.assets + held.swap

    def _worth(self, symbol: str, held: Exposure) -> Worth:
        """At the prices of `msc`; kept for as long as those hold."""
        msc = self.msc
        quote = self.market.quote(symbol, msc)
        if quote is None:
            return Worth(msc, msc, 0.0, 0.0)
        spans = [self.market.feeds[name].span(msc) for name in (symbol, *self.rate_symbols(symbol))]
        held.worth = Worth(
            max([since for since, _ in spans]), min([until for _, until in spans]),
            self.symbol_profit(symbol, held, quote.bid, quote.ask), self._assets(symbol, held, quote.bid),
        )  # fmt: skip
        return held.worth

    def forget_worths(self) -> None:
        """A symbol has a tick that nobody could foresee."""
        self._exposures.forget_worths()

    def symbol_profit(self, symbol: str, held: Exposure, bid: float, ask: float) -> float:
        """Floating profit of all positions of a symbol, unrounded."""
        spec = self.spec(symbol)
        (long, short), unit = held.legs, formulas.price_value(spec)
        profits = ((bid * long.lots - long.value) * unit, (short.value - ask * short.lots) * unit)
        if spec.currency_profit == self.currency:
            return profits[0] + profits[1]
        bought, sold = profits
        if bought:
            bought *= self.profit_rate(symbol, bid, gain=bought > 0, side=c.POSITION_TYPE_BUY)
        if sold:
            sold *= self.profit_rate(symbol, ask, gain=sold > 0, side=c.POSITION_TYPE_SELL)
        return bought + sold

    def least_worth(self, symbol: str, held: Exposure, extremes: Prices) -> float:
        """At most what `worth` is while prices stay within `extremes` (lowest bid, highest ask)."""
        prices = extremes(symbol)
        if prices is None:
            return held.swap
        spec, (bid, ask), (long, short) = self.spec(symbol), prices, held.legs
        unit = formulas.price_value(spec)
        rates = (1.0, 1.0)
        if spec.currency_profit != self.currency:
            rates = self._converter.bounds(spec.currency_profit, self.currency, extremes)
        # The wider spread that takes both extremes at once only lowers it.
        parts = ((bid * long.lots - long.value) * unit, (short.value - ask * short.lots) * unit)
        worth = sum(part * rates[0 if part > 0 else 1] for part in parts) + held.swap
        if spec.calc_mode == c.SYMBOL_CALC_MODE_SERV_COLLATERAL:
            worth += formulas.asset_value(spec, long.lots, bid) * rates[0]
        return worth

    def exposures(self) -> dict[str, Exposure]:
        """What is open, by symbol."""
        return self._exposures.current()

    def _assets(self, symbol: str, held: Exposure, bid: float) -> float:
        spec = self.spec(symbol)
        if spec.calc_mode != c.SYMBOL_CALC_MODE_SERV_COLLATERAL:
            return 0.0
        return self.convert(formulas.asset_value(spec, held.legs[0].lots, bid), spec.currency_profit)

    def _valued(self, profit: float, swap: float, assets: float) -> Valuation:
        return self.valued(float(self.ledger.balance), profit, swap, assets, self.total_margin())

    def valued(self, balance: float, profit: float, swap: float, assets: float, margin: float) -> Valuation:
        """The account with these amounts, and its credit."""
        digits = self.digits
        equity = round(balance + float(self.ledger.credit) + profit + swap + assets, digits)
        margin = round(margin, digits)
        level = equity / margin * 100 if margin else 0.0
        return Valuation(round(profit, digits), equity, margin, round(equity - margin, digits), level, assets)

    @contextmanager
    def rehearsal(self, symbol: str, tickets: Iterable[int]) -> Iterator[None]:
        """What happens inside to these positions and orders of a symbol, and to new ones, is undone at the end."""
        conversions = dict(self._conversions)
        with self.ledger.rehearsal(symbol, tickets):
            yield
        self._conversions = conversions

    # Durability.

    def commit(self, msc: int) -> None:
        """Writes what the ledger did, as of `msc` (UTC).

        Raises:
            sqlite3.Error: nothing was written, and the books are again what the store holds. One that says
                `BooksChangedError` was too late: another process wrote first.
        """
        change = self.ledger.take_change()
        # Tickets of requests that came to nothing are spent, too: after a restart as before it.
        if change or self.ledger.next_ticket != self._issued:
            try:
                self.store.commit(change, self.ledger, msc)
            except sqlite3.Error:
                self.reload()
                raise
            self._issued = self.ledger.next_ticket
        self.processed_msc = msc

    def reload(self) -> None:
        """Forgets what memory holds and reads the store."""
        self.ledger.take_change()
        self._exposures.clear()
        self._conversions.clear()
        self.processed_msc = self.store.load(self.ledger)
        self._issued = self.ledger.next_ticket

    def follow(self) -> bool:
        """Takes in what another process wrote; True if there was something."""
        if self.store.foreign_writes() == self.store.seen:
            return False
        self.reload()
        return True

    def _prices(self, symbol: str) -> tuple[float, float] | None:
        quote = self.market.quote(symbol, self.msc)
        return None if quote is None else (quote.bid, quote.ask)
