"""What a trade costs and brings: margin and profit by calculation mode. Pure.

Sources, all of MetaQuotes: "Symbol Properties" of the MQL5 reference (ENUM_SYMBOL_CALC_MODE), and of the MetaTrader 5
help "Basic Margin Calculation", "Retail Forex, CFD, Futures: Netting" and "... Hedging", and "Profit Calculation".
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

import msgspec
from msgspec import structs

from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.market.catalogue import SymbolSpec

FORTS = 34
"""SYMBOL_CALC_MODE_EXCH_FUTURES_FORTS of the MQL5 reference; the Python package calls 34 EXCH_OPTIONS."""

FOREX_MODES = frozenset({c.SYMBOL_CALC_MODE_FOREX, c.SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE})
_LEVERAGED = frozenset({c.SYMBOL_CALC_MODE_FOREX, c.SYMBOL_CALC_MODE_CFDLEVERAGE})
FUTURES_MODES = frozenset({c.SYMBOL_CALC_MODE_FUTURES, c.SYMBOL_CALC_MODE_EXCH_FUTURES, FORTS})
_BONDS = frozenset({c.SYMBOL_CALC_MODE_EXCH_BONDS, c.SYMBOL_CALC_MODE_EXCH_BONDS_MOEX})
_BY_TICK = FUTURES_MODES | {c.SYMBOL_CALC_MODE_EXCH_OPTIONS_MARGIN}
"""Profit counts in ticks."""

_LIMITS = frozenset({c.ORDER_TYPE_BUY_LIMIT, c.ORDER_TYPE_SELL_LIMIT})
_SIDES = (
    "buy", "sell", "buy_limit", "sell_limit", "buy_stop", "sell_stop", "buy_stop_limit", "sell_stop_limit"
)  # fmt: skip
"""The names of `MarginRates`, by ORDER_TYPE_*."""


_UNITS = {0: Decimal(1), 2: Decimal("0.01")}
"""The smallest amounts of money, by decimals."""


def currency_digits(currency: str) -> int:
    """Decimals in which the account's money is kept."""
    return 0 if currency == "JPY" else 2


def to_money(amount: Decimal, currency: str) -> Decimal:
    """Rounds half up to the currency's decimals."""
    return amount.quantize(_UNITS[currency_digits(currency)], ROUND_HALF_UP)


# Profit.


def price_value(spec: SymbolSpec) -> float:
    """Profit currency that one lot makes when the price moves by 1."""
    if spec.calc_mode in _BY_TICK:
        return _per_tick(spec)
    if spec.calc_mode in _BONDS:
        return spec.contract_size * spec.face_value / 100
    return 0.0 if spec.calc_mode == c.SYMBOL_CALC_MODE_SERV_COLLATERAL else spec.contract_size


def raw_profit(spec: SymbolSpec, order_type: int, volume: float, price_open: float, price_close: float) -> float:
    """Profit in the symbol's profit currency. `order_type` is 0 for a long, 1 for a short."""
    move = price_close - price_open if order_type == 0 else price_open - price_close
    return move * price_value(spec) * volume


def exact_profit(spec: SymbolSpec, order_type: int, volume: float, price_open: float, price_close: float) -> Decimal:
    """As `raw_profit`, in decimals and rounded to the profit currency: for what enters the books.

    Forex rounds the value at the opening and at the closing each for itself, all others their difference ("Profit
    Calculation", section "Normalization").
    """
    per_price = Decimal(repr(price_value(spec))) * Decimal(repr(volume))
    opened, closed = (Decimal(repr(price)) * per_price for price in (price_open, price_close))
    if spec.calc_mode in FOREX_MODES:
        opened, closed = (to_money(value, spec.currency_profit) for value in (opened, closed))
    profit = to_money(closed - opened, spec.currency_profit)
    return profit if order_type == 0 else -profit


def asset_value(spec: SymbolSpec, volume: float, price: float) -> float:
    """What a holding of collateral adds to the account's assets, in the symbol's profit currency."""
    if spec.calc_mode != c.SYMBOL_CALC_MODE_SERV_COLLATERAL:
        return 0.0
    return volume * spec.contract_size * price * spec.liquidity_rate


def deal_value(spec: SymbolSpec, volume: float, price: float) -> Decimal:
    """What changes hands in a deal, in profit currency: the base of a commission in percent."""
    return abs(Decimal(repr(price)) * Decimal(repr(price_value(spec))) * Decimal(repr(volume)))


# Margin.


def rate(spec: SymbolSpec, order_type: int, *, maintenance: bool = False) -> float:
    """The multiplier for an order type; of positions, 0 long and 1 short."""
    rates = spec.margin_rates
    if maintenance and spec.maintenance_rates is not None:
        rates = spec.maintenance_rates
    found: float = getattr(rates, _SIDES[order_type])
    return found * spec.margin_rate


def pendings_reserve(spec: SymbolSpec) -> bool:
    """Whether any type of pending order reserves margin."""
    return any(rate(spec, kind) for kind in range(2, len(_SIDES)))


def basic_margin(spec: SymbolSpec, volume: float, price: float, leverage: int, *, maintenance: bool = False) -> float:
    """Margin before conversion and rate, in the symbol's margin currency ("Basic Margin Calculation").

    A fixed margin takes the place of the formulas; Forex and CFD Leverage divide it by the leverage all the same.
    """
    fixed = spec.margin_maintenance if maintenance and spec.margin_maintenance else spec.margin_initial
    if spec.calc_mode == c.SYMBOL_CALC_MODE_SERV_COLLATERAL:
        return 0.0
    if fixed or spec.calc_mode in FUTURES_MODES:
        margin = volume * fixed
    else:
        margin = volume * spec.contract_size * _worth(spec, price)
    return margin / leverage if spec.calc_mode in _LEVERAGED else margin


def raw_margin(
    spec: SymbolSpec, volume: float, price: float, leverage: int, order_type: int = 0, *, maintenance: bool = False
) -> float:
    """Margin of one order or position alone, rate included, in the symbol's margin currency."""
    if spec.calc_mode == FORTS:
        return volume * _forts(spec, order_type, price)
    margin = basic_margin(spec, volume, price, leverage, maintenance=maintenance)
    return margin * rate(spec, order_type, maintenance=maintenance)


class Leg(msgspec.Struct, gc=False):
    """Sums over one side of a symbol's positions: lots, lots x open price, lots x conversion rate."""

    lots: float = 0.0
    value: float = 0.0
    rates: float = 0.0

    def add(self, lots: float, price: float, conversion: float) -> None:
        """Adds a position, or with negative lots takes it away."""
        self.lots = round(self.lots + lots, 8)
        self.value += lots * price
        self.rates += lots * conversion
        if not self.lots:
            self.value = self.rates = 0.0


def leg_margin(spec: SymbolSpec, leg: Leg, side: int, leverage: int) -> float:
    """Account money one side pays alone: by weighted average price and conversion rate."""
    if leg.lots <= 0:
        return 0.0
    raw = raw_margin(spec, leg.lots, leg.value / leg.lots, leverage, side, maintenance=True)
    return raw * leg.rates / leg.lots


def legs_margin(spec: SymbolSpec, legs: tuple[Leg, Leg], leverage: int) -> float:
    """Account money that a symbol's long and short positions pay together ("... Hedging").

    The uncovered lots pay as the larger side does; the covered ones by the hedged margin, the average price and
    conversion of all positions, and the mean of both rates. Or, by the symbol's setting, only the dearer side pays.
    """
    long, short = legs
    if not long.lots or not short.lots:
        return leg_margin(spec, long, 0, leverage) + leg_margin(spec, short, 1, leverage)
    if spec.margin_hedged_use_leg or spec.calc_mode == FORTS:
        return max(leg_margin(spec, long, 0, leverage), leg_margin(spec, short, 1, leverage))
    side = 0 if long.lots >= short.lots else 1
    covered = legs[1 - side].lots
    uncovered = leg_margin(spec, legs[side], side, leverage) * (1 - covered / legs[side].lots)
    return uncovered + _covered_margin(spec, legs, covered, leverage)


class Waiting(NamedTuple):
    """A pending order, as the margin sees it; `conversion` turns margin currency into account money."""

    type: int
    lots: float
    price: float
    conversion: float


def symbol_margin(
    spec: SymbolSpec, legs: tuple[Leg, Leg], waiting: Sequence[Waiting], leverage: int, *, hedging: bool
) -> float:
    """Account money that a symbol's positions and pending orders reserve.

    Hedging: each pending pays for itself, or counts on its side where the dearer side pays. Netting: the dearer
    direction pays; stops beside the position's direction pay on top.
    """
    if not waiting:
        return legs_margin(spec, legs, leverage)
    orders = [(order, raw_margin(spec, order.lots, order.price, leverage, order.type) * order.conversion)
              for order in waiting]  # fmt: skip
    if spec.calc_mode == FORTS:
        return _forts_margin(spec, legs, orders)
    if hedging and not spec.margin_hedged_use_leg:
        return legs_margin(spec, legs, leverage) + sum(margin for _, margin in orders)
    sides = [leg_margin(spec, legs[side], side, leverage) for side in (0, 1)]
    added = 0.0
    for order, margin in orders:
        side = order.type % 2
        if hedging or order.type in _LIMITS or legs[1 - side].lots:
            sides[side] += margin
        else:
            added += margin
    return max(sides) + added


def hedging_need(
    spec: SymbolSpec, legs: tuple[Leg, Leg], side: int, order: Leg, leverage: int, *, before: float | None = None
) -> float:
    """Account money that must be free to open `order` beside `legs` on a hedging account.

    An order under way never lowers the margin; with a fixed margin it pays the initial one for what it leaves
    uncovered, though the position will keep only the maintenance margin ("... Hedging", "Checking Margin").
    """
    other = legs[1 - side]
    free_lots = max(0.0, round(other.lots - legs[side].lots, 8))
    covered = min(order.lots, free_lots)
    grown = structs.replace(legs[side])
    both = (grown, other) if side == 0 else (other, grown)
    conversion, price = order.rates / order.lots, order.value / order.lots
    if not spec.margin_initial and spec.calc_mode != FORTS:
        grown.add(order.lots, price, conversion)
        if before is None:
            before = legs_margin(spec, legs, leverage)
        raised = legs_margin(spec, both, leverage) - before
        return max(0.0, raised) + _initial_surcharge(spec, order.lots - covered, price, side, leverage) * conversion
    opened = raw_margin(spec, order.lots - covered, price, leverage, side) * conversion
    if not covered or spec.margin_hedged_use_leg or spec.calc_mode == FORTS:
        return opened
    grown.add(covered, price, conversion)
    return opened + _covered_margin(spec, both, covered, leverage)


def netting_need(spec: SymbolSpec, held: Leg, held_side: int, side: int, order: Leg, leverage: int) -> float:
    """Account money that must be free for `order` beside the one position of a netting account ("... Netting").

    Against the position: nothing up to its volume, beyond it the larger of the two margins counts.
    """
    alone = raw_margin(spec, order.lots, order.value / order.lots, leverage, side) * order.rates / order.lots
    if held.lots <= 0 or held_side == side:
        return alone
    if order.lots <= held.lots:
        return 0.0
    return max(0.0, alone - leg_margin(spec, held, held_side, leverage))


def _initial_surcharge(spec: SymbolSpec, lots: float, price: float, side: int, leverage: int) -> float:
    """By how much opening costs more than holding."""
    if spec.maintenance_rates is None and not spec.margin_maintenance:
        return 0.0
    initial = raw_margin(spec, lots, price, leverage, side)
    return max(0.0, initial - raw_margin(spec, lots, price, leverage, side, maintenance=True))


def _covered_margin(spec: SymbolSpec, legs: tuple[Leg, Leg], covered: float, leverage: int) -> float:
    lots = legs[0].lots + legs[1].lots
    price, conversion = (legs[0].value + legs[1].value) / lots, (legs[0].rates + legs[1].rates) / lots
    if spec.margin_initial:
        margin = covered * spec.margin_hedged / (leverage if spec.calc_mode in _LEVERAGED else 1)
    else:
        margin = basic_margin(spec, covered, price, leverage) * spec.margin_hedged / spec.contract_size
    mean = (rate(spec, 0, maintenance=True) + rate(spec, 1, maintenance=True)) / 2
    return margin * conversion * mean


def _worth(spec: SymbolSpec, price: float) -> float:
    """Margin currency per unit of contract."""
    match spec.calc_mode:
        case c.SYMBOL_CALC_MODE_FOREX | c.SYMBOL_CALC_MODE_FOREX_NO_LEVERAGE:
            return 1.0
        case c.SYMBOL_CALC_MODE_CFDINDEX:
            return price * (spec.tick_value / spec.tick if spec.tick_value else 1.0)
        case c.SYMBOL_CALC_MODE_EXCH_BONDS | c.SYMBOL_CALC_MODE_EXCH_BONDS_MOEX:
            return price * spec.face_value / 100
        case _:
            return price


def _per_tick(spec: SymbolSpec) -> float:
    return round(spec.tick_value / spec.tick, 10) if spec.tick_value else spec.contract_size


def _forts_margin(spec: SymbolSpec, legs: tuple[Leg, Leg], orders: Sequence[tuple[Waiting, float]]) -> float:
    """The dearer of all buys and all sells, the position being in both: with its sign, as cover."""
    sides = []
    for side in (0, 1):
        margin = sum(amount for order, amount in orders if order.type % 2 == side)
        for held, leg in enumerate(legs):
            if leg.lots:
                amount = leg.rates * _forts(spec, side, leg.value / leg.lots)
                margin += amount if held == side else -amount
        sides.append(margin)
    return max(sides)


def _forts(spec: SymbolSpec, order_type: int, price: float) -> float:
    """Margin per lot of a FORTS future: the maintenance margin is that of the sell side ("Exchange FORTS Futures")."""
    rise = (price - (spec.settlement_price or price)) * _per_tick(spec)
    if order_type % 2 == 0:
        return (spec.margin_initial + rise) * rate(spec, order_type)
    return ((spec.margin_maintenance or spec.margin_initial) - rise) * rate(spec, order_type)
