"""One account at work: its books, its store, and what it is worth at current prices."""

import sqlite3
from decimal import Decimal
from typing import NamedTuple

import msgspec

from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator import margin as formulas
from mt5_bridge.simulator.catalogue import SymbolSpec
from mt5_bridge.simulator.ledger import Ledger
from mt5_bridge.simulator.market import Market, Quote
from mt5_bridge.simulator.memory import AnyStore
from mt5_bridge.simulator.records import Position


class Exposure(msgspec.Struct, gc=False):
    """Sums over one symbol's positions, by side (long, short): lots, lots x open price, margin; and swap."""

    lots: list[float]
    value: list[float]
    margins: list[float]
    swap: float = 0.0
    count: int = 0


class Valuation(NamedTuple):
    """Account money. `level` is in percent, 0 without margin."""

    profit: float
    equity: float
    margin: float
    free: float
    level: float


class Pricer(NamedTuple):
    """Values positions of one symbol. The rates convert profit currency at the bid and at the ask."""

    spec: SymbolSpec
    quote: Quote
    gains: tuple[float, float]
    losses: tuple[float, float]
    digits: int

    def profit(self, position: Position) -> float:
        """Floating profit, rounded to the account's decimals."""
        side = position.type
        price = self.quote.ask if side else self.quote.bid
        raw = formulas.raw_profit(self.spec, side, position.volume, position.price_open, price)
        return round(raw * (self.gains if raw > 0 else self.losses)[side], self.digits)


class Account:
    """The money side: converts, values, commits."""

    def __init__(self, market: Market, store: AnyStore, mode: MarginMode, currency: str, leverage: int) -> None:
        self.market = market
        self.store = store
        self.mode = mode
        self.currency = currency
        self.leverage = leverage
        self.digits = formulas.currency_digits(currency)
        self.msc = market.now()
        """The moment (UTC) at which prices are taken: that of the tick or request being worked on."""
        self._specs = {name: feed.spec for name, feed in market.feeds.items()}
        self._converter = formulas.Converter(self._specs, self._prices)
        self.ledger = Ledger(mode, self)
        self.processed_msc = store.load(self.ledger)
        self._exposures: dict[str, Exposure] = {}
        self._shares: dict[int, tuple[int, float, float, float, float]] = {}
        """What each position adds to its symbol's sums: side, lots, value, margin, swap."""

    # What the ledger asks for (`ledger.Money`).

    def profit(self, symbol: str, order_type: int, volume: float, price_open: float, price_close: float) -> Decimal:
        """Realised profit: converted at the closing price where the symbol itself is the exchange rate."""
        spec = self._specs[symbol]
        amount = formulas.exact_profit(spec, order_type, volume, price_open, price_close)
        if spec.currency_profit != self.currency:
            amount *= Decimal(repr(self.profit_rate(symbol, price_close, gain=amount > 0)))
        return formulas.to_money(amount, self.currency)

    def margin_rate(self, symbol: str, order_type: int, price: float) -> float:
        """Account money per unit of margin currency, bought at the current rate or, of the symbol itself, `price`."""
        rate = self._converter.rate(
            self._specs[symbol].currency_margin, self.currency, selling=order_type == 1, known={symbol: price}
        )
        return 1.0 if rate is None else rate

    def profit_rate(self, symbol: str, price_close: float, *, gain: bool) -> float:
        """Account money per unit of profit currency."""
        rate = self._converter.rate(
            self._specs[symbol].currency_profit, self.currency, selling=gain, known={symbol: price_close}
        )
        return 1.0 if rate is None else rate

    # Valuation.

    def margin(self, symbol: str, order_type: int, volume: float, price: float) -> float:
        """Margin for opening `volume` lots at `price`, unrounded."""
        raw = formulas.raw_margin(self._specs[symbol], volume, price, self.leverage)
        return raw * self.margin_rate(symbol, order_type, price)

    def additional_margin(self, symbol: str, side: int, volume: float, price: float) -> float:
        """How much more margin the account needs after opening `volume` lots; negative where it needs less."""
        held = self.exposures().get(symbol)
        alone = self.margin(symbol, side, volume, price)
        if held is None:
            return alone
        mine, other = held.lots[side], held.lots[1 - side]
        if self.mode is MarginMode.HEDGING:
            uncovered = max(0.0, min(volume, mine + volume - other))
            spec = self._specs[symbol]
            saved = (volume - uncovered) * (1 - spec.margin_hedged / spec.contract_size)
            return (uncovered - saved) * alone / volume
        if other <= 0:
            return alone
        # Netting: what exceeds the opposite position remains, and that position's own margin is set free.
        left = volume - other
        margin = self.symbol_margin(symbol, held)
        return alone * left / volume - margin if left > 0 else -margin * volume / other

    def pricer(self, symbol: str) -> Pricer | None:
        """Prices the symbol's positions at the current quote; None without one."""
        quote = self.market.quote(symbol, self.msc)
        if quote is None:
            return None
        spec = self._specs[symbol]
        gains = losses = (1.0, 1.0)
        if spec.currency_profit != self.currency:
            gains = (self.profit_rate(symbol, quote.bid, gain=True), self.profit_rate(symbol, quote.ask, gain=True))
            losses = (self.profit_rate(symbol, quote.bid, gain=False), self.profit_rate(symbol, quote.ask, gain=False))
        return Pricer(spec, quote, gains, losses, self.digits)

    def valuation(self) -> Valuation:
        """The account now, position by position, so that profit is exactly their sum."""
        profit = swap = 0.0
        for symbol, positions in self.ledger.by_symbol.items():
            pricer = self.pricer(symbol)
            for position in positions.values():
                profit += pricer.profit(position) if pricer is not None else 0.0
                swap += position.swap
        return self._valued(round(profit, self.digits), round(swap, self.digits))

    def estimate(self) -> Valuation:
        """The account now, symbol by symbol: as `valuation` but for the rounding of each position, and quick."""
        profit = swap = 0.0
        for symbol, held in self.exposures().items():
            quote = self.market.quote(symbol, self.msc)
            if quote is not None:
                profit += self.symbol_profit(symbol, held, quote.bid, quote.ask)
            swap += held.swap
        return self._valued(profit, swap)

    def symbol_profit(self, symbol: str, held: Exposure, bid: float, ask: float) -> float:
        """Floating profit of all positions of a symbol, unrounded."""
        spec = self._specs[symbol]
        (longs, shorts), (bought, sold) = held.lots, held.value
        raw = ((bid * longs - bought) + (sold - ask * shorts)) * spec.contract_size
        if spec.currency_profit == self.currency:
            return raw
        return raw * self.profit_rate(symbol, bid if longs >= shorts else ask, gain=raw > 0)

    def exposures(self) -> dict[str, Exposure]:
        """What is open, by symbol."""
        if self.ledger.touched:
            for symbol, ticket in self.ledger.touched:
                self._sum_up(symbol, ticket)
            self.ledger.touched.clear()
        return self._exposures

    def total_margin(self) -> float:
        """Margin of everything open."""
        return sum((self.symbol_margin(symbol, held) for symbol, held in self.exposures().items()), 0.0)

    def symbol_margin(self, symbol: str, held: Exposure) -> float:
        """Margin of a symbol's positions: of the uncovered volume, and the hedged margin of the covered one."""
        larger = 0 if held.lots[0] >= held.lots[1] else 1
        hedged = held.lots[1 - larger]
        if not hedged:
            return held.margins[larger]
        spec = self._specs[symbol]
        uncovered = held.margins[larger] * (1 - hedged / held.lots[larger])
        return uncovered + hedged * (spec.margin_hedged / spec.contract_size) * sum(held.margins) / sum(held.lots)

    # Durability.

    def commit(self, msc: int) -> None:
        """Writes what the ledger did, as of `msc` (UTC).

        Raises:
            sqlite3.Error: nothing was written, and the books are again what the store holds. One that says
                `BooksChangedError` was too late: another process wrote first.
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
        self._shares.clear()
        self.processed_msc = self.store.load(self.ledger)

    def follow(self) -> bool:
        """Takes in what another process wrote; True if there was something."""
        if self.store.foreign_writes() == self.store.seen:
            return False
        self.reload()
        return True

    def _sum_up(self, symbol: str, ticket: int) -> None:
        """Brings the symbol's sums up to date with one position."""
        held = self._exposures.setdefault(symbol, Exposure([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]))
        before = self._shares.pop(ticket, None)
        if before is not None:
            held.count -= 1
            _add(held, before, -1)
        position = self.ledger.positions.get(ticket)
        if position is not None:
            raw = formulas.raw_margin(self._specs[symbol], position.volume, position.price_open, self.leverage)
            value = position.volume * position.price_open
            share = (position.type, position.volume, value, raw * position.margin_rate, position.swap)
            self._shares[ticket] = share
            held.count += 1
            _add(held, share, 1)
        if not held.count:
            # Also ends what rounding has left in the sums.
            del self._exposures[symbol]

    def _valued(self, profit: float, swap: float) -> Valuation:
        digits = self.digits
        equity = round(float(self.ledger.balance) + profit + swap, digits)
        margin = round(self.total_margin(), digits)
        level = equity / margin * 100 if margin else 0.0
        return Valuation(round(profit, digits), equity, margin, round(equity - margin, digits), level)

    def _prices(self, symbol: str) -> tuple[float, float] | None:
        quote = self.market.quote(symbol, self.msc)
        return None if quote is None else (quote.bid, quote.ask)


def _add(held: Exposure, share: tuple[int, float, float, float, float], sign: int) -> None:
    side, lots, value, margin, swap = share
    held.lots[side] = round(held.lots[side] + sign * lots, 8)
    held.value[side] += sign * value
    held.margins[side] += sign * margin
    held.swap += sign * swap
