"""Account money: what the ledger asks for, with prices of the market and exchange rates made of them."""

from decimal import Decimal

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core import margin as formulas
from mt5_bridge.simulator.core import swaps
from mt5_bridge.simulator.core.conversion import Converter
from mt5_bridge.simulator.core.records import Position
from mt5_bridge.simulator.market.catalogue import SymbolSpec
from mt5_bridge.simulator.market.market import Market

_WITHOUT_COMMISSION = {c.DEAL_ENTRY_IN: "out", c.DEAL_ENTRY_OUT: "in", c.DEAL_ENTRY_OUT_BY: "in"}
"""By DEAL_ENTRY_*, the `commission_entry` of symbols that charge such a deal nothing."""


class Exchange:
    """Turns prices and amounts into the account's currency (`ledger.Money`)."""

    def __init__(self, market: Market, currency: str) -> None:
        self.market = market
        self.currency = currency
        self.digits = formulas.currency_digits(currency)
        self.msc = market.now()
        """The moment (UTC) at which prices are taken: that of the tick or request being worked on."""
        self._converter = Converter({name: feed.spec for name, feed in market.feeds.items()}, self._prices)
        self._movers: dict[str, frozenset[str]] = {}
        self._convertible: set[str] = set()

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
        if not spec.commission or spec.commission_entry == _WITHOUT_COMMISSION.get(entry):
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

    def movers(self, symbol: str) -> frozenset[str]:
        """The symbols whose prices move what its positions bring: itself, and those that turn it into account money."""
        found = self._movers.get(symbol)
        if found is None:
            rates = self._converter.symbols(self.spec(symbol).currency_profit, self.currency)
            found = self._movers[symbol] = frozenset((symbol, *rates))
        return found

    def spec(self, symbol: str) -> SymbolSpec:
        """The symbol's rules."""
        return self.market.feeds[symbol].spec

    def _prices(self, symbol: str) -> tuple[float, float] | None:
        quote = self.market.quote(symbol, self.msc)
        return None if quote is None else (quote.bid, quote.ask)
