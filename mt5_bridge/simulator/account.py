"""One account at work: its books, its store, its valuation at current prices, and what the market's ticks do to it."""

import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator import margin as formulas
from mt5_bridge.simulator.ledger import Ledger
from mt5_bridge.simulator.market import Market
from mt5_bridge.simulator.records import Position
from mt5_bridge.simulator.store import Store


class Exposure(NamedTuple):
    """One symbol's open volume, for valuation without going through its positions: lots and lots × open price."""

    buy: float
    buy_value: float
    sell: float
    sell_value: float
    margin: float
    swap: float


class Valuation(NamedTuple):
    """Account money. `level` is in percent, 0 without margin."""

    profit: float
    equity: float
    margin: float
    free: float
    level: float


class Account:
    """The money side: converts, values, commits."""

    def __init__(self, market: Market, store: Store, mode: MarginMode, currency: str, leverage: int) -> None:
        self.market = market
        self.store = store
        self.mode = mode
        self.currency = currency
        self.leverage = leverage
        self.msc = market.now()
        """The moment (UTC) at which prices are taken for conversion: that of the tick or request being worked on."""
        specs = {name: feed.spec for name, feed in market.feeds.items()}
        self._specs = specs
        self._converter = formulas.Converter(specs, self._prices)
        self.ledger = Ledger(mode, self)
        self.processed_msc = store.load(self.ledger)
        self._exposures: dict[str, Exposure] = {}
        self._writes = store.foreign_writes()

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
        held = dict(self.exposures()).get(symbol)
        alone = self.margin(symbol, side, volume, price)
        if held is None:
            return alone
        mine, other = (held.buy, held.sell) if side == 0 else (held.sell, held.buy)
        if self.mode is MarginMode.HEDGING:
            uncovered = max(0.0, min(volume, mine + volume - other))
            spec = self._specs[symbol]
            hedged = volume - uncovered
            per_lot = alone / volume
            return uncovered * per_lot - hedged * per_lot * (1 - spec.margin_hedged / spec.contract_size)
        # Netting: what exceeds the opposite position remains, and that position's own margin is set free.
        if other <= 0:
            return alone
        left = volume - other
        return alone * left / volume - held.margin if left > 0 else -held.margin * volume / other

    def floating(self, position: Position, bid: float, ask: float) -> float:
        """A position's profit at these prices, rounded to the account's decimals."""
        price = bid if position.type == 0 else ask
        spec = self._specs[position.symbol]
        raw = formulas.raw_profit(spec, position.type, position.volume, position.price_open, price)
        if spec.currency_profit != self.currency:
            raw *= self.profit_rate(position.symbol, price, gain=raw > 0)
        return round(raw, formulas.currency_digits(self.currency))

    def valuation(self) -> Valuation:
        """The account now, position by position, so that profit is exactly their sum."""
        profit = swap = 0.0
        for position in self.ledger.positions.values():
            quote = self.market.quote(position.symbol, self.msc)
            if quote is not None:
                profit += self.floating(position, quote.bid, quote.ask)
            swap += position.swap
        digits = formulas.currency_digits(self.currency)
        return self._valued(round(profit, digits), round(swap, digits))

    def estimate(self) -> Valuation:
        """The account now, symbol by symbol: as `valuation` but for the rounding of each position, and quick."""
        profit = 0.0
        for symbol, held in self.exposures():
            quote = self.market.quote(symbol, self.msc)
            if quote is not None:
                profit += self.symbol_profit(symbol, held, quote.bid, quote.ask)
        return self._valued(profit, sum((held.swap for _, held in self.exposures()), 0.0))

    def symbol_profit(self, symbol: str, held: Exposure, bid: float, ask: float) -> float:
        """Floating profit of all positions of a symbol, unrounded."""
        spec = self._specs[symbol]
        raw = ((bid * held.buy - held.buy_value) + (held.sell_value - ask * held.sell)) * spec.contract_size
        if spec.currency_profit == self.currency:
            return raw
        return raw * self.profit_rate(symbol, bid if held.buy >= held.sell else ask, gain=raw > 0)

    def exposures(self) -> Iterator[tuple[str, Exposure]]:
        """What is open, by symbol."""
        for symbol in self.ledger.by_symbol:
            held = self._exposures.get(symbol)
            if held is None:
                held = self._exposures[symbol] = self._expose(symbol)
            yield symbol, held

    def equity_margin(self) -> float:
        """Margin of everything open."""
        return sum((held.margin for _, held in self.exposures()), 0.0)

    def stale(self, symbol: str) -> None:
        """The symbol's positions changed."""
        self._exposures.pop(symbol, None)

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
        self.processed_msc = self.store.load(self.ledger)
        self._exposures.clear()
        self._writes = self.store.foreign_writes()

    def follow(self) -> bool:
        """Takes in what another process wrote; True if there was something."""
        writes = self.store.foreign_writes()
        if writes == self._writes:
            return False
        self.reload()
        return True

    def _expose(self, symbol: str) -> Exposure:
        spec = self._specs[symbol]
        lots, value, margins = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
        swap = 0.0
        for position in self.ledger.by_symbol[symbol].values():
            side = position.type
            lots[side] += position.volume
            value[side] += position.volume * position.price_open
            swap += position.swap
            raw = formulas.raw_margin(spec, position.volume, position.price_open, self.leverage)
            margins[side] += raw * position.margin_rate
        larger = 0 if lots[0] >= lots[1] else 1
        hedged = lots[1 - larger]
        total = margins[larger] * (1 - hedged / lots[larger])
        if hedged:
            total += hedged * (spec.margin_hedged / spec.contract_size) * sum(margins) / sum(lots)
        return Exposure(lots[0], value[0], lots[1], value[1], total, swap)

    def _valued(self, profit: float, swap: float) -> Valuation:
        digits = formulas.currency_digits(self.currency)
        equity = round(float(self.ledger.balance) + profit + swap, digits)
        margin = round(self.equity_margin(), digits)
        level = equity / margin * 100 if margin else 0.0
        return Valuation(round(profit, digits), equity, margin, round(equity - margin, digits), level)

    def _prices(self, symbol: str) -> tuple[float, float] | None:
        quote = self.market.quote(symbol, self.msc)
        return None if quote is None else (quote.bid, quote.ask)
