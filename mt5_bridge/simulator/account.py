"""One account at work: its books, its store, and what it is worth at current prices."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import NamedTuple

from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator import margin as formulas
from mt5_bridge.simulator import swaps
from mt5_bridge.simulator.broker import AccountRules
from mt5_bridge.simulator.catalogue import SymbolSpec
from mt5_bridge.simulator.conversion import Converter
from mt5_bridge.simulator.exposure import Exposure, Exposures
from mt5_bridge.simulator.ledger import Ledger
from mt5_bridge.simulator.margin import Leg, Waiting
from mt5_bridge.simulator.market import Market, Quote
from mt5_bridge.simulator.records import Order, Position
from mt5_bridge.simulator.rules import PENDING_TYPES
from mt5_bridge.simulator.store import Store


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
        self, market: Market, store: Store, mode: MarginMode, currency: str, leverage: int,
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
        self._exposures = Exposures(self.ledger)
        self._reserving = {name for name, feed in market.feeds.items() if formulas.pendings_reserve(feed.spec)}
        self._conversions: dict[tuple[int, float], float] = {}
        """Of pendings that reserve margin, by ticket and price."""
        self._writes = store.foreign_writes()

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
        spec = self.spec(symbol)
        return all(
            self._converter.rate(currency, self.currency, selling=True) is not None
            for currency in {spec.currency_margin, spec.currency_profit}
        )

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
            return formulas.hedging_need(spec, legs, side, order, self.leverage)
        held_side = 0 if legs[0].lots else 1
        return formulas.netting_need(spec, legs[held_side], held_side, side, order, self.leverage)

    def total_margin(self) -> float:
        """Margin of everything open or waiting."""
        symbols = {**self.exposures(), **dict.fromkeys(self._with_reserves())}
        return sum((self._symbol_margin(symbol, self._waiting(symbol)) for symbol in symbols), 0.0)

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
        for symbol, held in self.exposures().items():
            quote = self.market.quote(symbol, self.msc)
            if quote is not None:
                profit += self.symbol_profit(symbol, held, quote.bid, quote.ask)
                assets += self._assets(symbol, held, quote.bid)
            swap += held.swap
        return self._valued(profit, swap, assets)

    def symbol_profit(self, symbol: str, held: Exposure, bid: float, ask: float) -> float:
        """Floating profit of all positions of a symbol, unrounded."""
        spec = self.spec(symbol)
        (long, short), unit = held.legs, formulas.price_value(spec)
        profits = ((bid * long.lots - long.value) * unit, (short.value - ask * short.lots) * unit)
        if spec.currency_profit == self.currency:
            return profits[0] + profits[1]
        return sum(
            (
                raw * self.profit_rate(symbol, price, gain=raw > 0, side=side)
                for side, (raw, price) in enumerate(zip(profits, (bid, ask), strict=True))
                if raw
            ),
            0.0,
        )

    def symbol_worth(self, symbol: str, held: Exposure, bid: float, ask: float) -> float:
        """What a symbol's positions add to the equity: profit, swap, and the value of collateral."""
        return self.symbol_profit(symbol, held, bid, ask) + held.swap + self._assets(symbol, held, bid)

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
            sqlite3.Error: nothing was written, and the books are again what the store holds.
        """
        change = self.ledger.take_change()
        if change:
            try:
                self.store.commit(change, self.ledger, msc)
            except sqlite3.Error:
                self.reload()
                raise
        self.processed_msc = msc

    def reload(self) -> None:
        """Forgets what memory holds and reads the store."""
        self.ledger.take_change()
        self._exposures.clear()
        self._conversions.clear()
        self.processed_msc = self.store.load(self.ledger)
        self._writes = self.store.foreign_writes()

    def follow(self) -> bool:
        """Takes in what another process wrote; True if there was something."""
        if self.store.foreign_writes() == self._writes:
            return False
        self.reload()
        return True

    def _prices(self, symbol: str) -> tuple[float, float] | None:
        quote = self.market.quote(symbol, self.msc)
        return None if quote is None else (quote.bid, quote.ask)
