"""What an account is worth at current prices."""

from typing import NamedTuple

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core import margin as formulas
from mt5_bridge.simulator.core.conversion import Prices
from mt5_bridge.simulator.core.exposure import Exposure, Worth
from mt5_bridge.simulator.core.records import Position
from mt5_bridge.simulator.market.catalogue import SymbolSpec
from mt5_bridge.simulator.market.market import Quote
from mt5_bridge.simulator.trading.margins import Margins


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


class Valuer(Margins):
    """Values what is open: position by position to show it, or by the sums of each symbol to decide on it."""

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
        msc = self.msc
        for symbol, held in self.exposures().items():
            shown = held.shown
            if shown is None or not shown.since <= msc < shown.until:
                shown = self._shown(symbol, held)
            profit += shown.profit
            assets += shown.assets
            swap += sum([position.swap for position in self.ledger.by_symbol[symbol].values()])
        return self._valued(round(profit, self.digits), round(swap, self.digits), round(assets, self.digits))

    def _shown(self, symbol: str, held: Exposure) -> Worth:
        """At the prices of `msc`, position by position; kept for as long as those hold."""
        pricer = self.pricer(symbol)
        if pricer is None:
            return Worth(self.msc, self.msc, 0.0, 0.0)
        profit = sum([pricer.profit(position) for position in self.ledger.by_symbol[symbol].values()])
        held.shown = Worth(*self._span(symbol), profit, self._assets(symbol, held, pricer.quote.bid))
        return held.shown

    def _span(self, symbol: str) -> tuple[int, int]:
        """The moments from which and until which (not included) nothing that prices the symbol moves."""
        spans = [self.market.feeds[name].span(self.msc) for name in self.movers(symbol)]
        return max([since for since, _ in spans]), min([until for _, until in spans])

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
        held.worth = Worth(
            *self._span(symbol),
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
