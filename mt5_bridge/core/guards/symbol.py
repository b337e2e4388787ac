"""The symbol: known, tradable in this direction, and quoted.

Source: SYMBOL_TRADE_MODE, SYMBOL_ORDER_MODE, the last tick.
"""

from math import inf

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Action, Side, SymbolInfo, TradeMode

_MODE_BITS = {
    Action.BUY: 1,
    Action.SELL: 1,
    Action.BUY_LIMIT: 2,
    Action.SELL_LIMIT: 2,
    Action.BUY_STOP: 4,
    Action.SELL_STOP: 4,
    Action.BUY_STOP_LIMIT: 8,
    Action.SELL_STOP_LIMIT: 8,
}
_ONLY = {TradeMode.LONG_ONLY: Side.BUY, TradeMode.SHORT_ONLY: Side.SELL}


def symbol(ctx: Context) -> Denial | None:
    """The terminal must know the symbol, and its broker allow the direction and the type of order."""
    rules = ctx.symbol
    if rules is None or rules.point <= 0:
        return Denial(code=Reason.UNKNOWN_SYMBOL, detail=f"the terminal does not know {ctx.signal.symbol}")
    return _direction(ctx, rules) or _order_type(ctx, rules)


def _direction(ctx: Context, rules: SymbolInfo) -> Denial | None:
    mode = rules.trade_mode
    if mode is TradeMode.FULL:
        return None
    if mode is TradeMode.DISABLED:
        return Denial(code=Reason.MARKET_CLOSED, detail=f"the broker has trading in {rules.name} disabled")
    if mode is TradeMode.CLOSE_ONLY:
        return Denial(code=Reason.SYMBOL_BLOCKED, detail=f"the broker allows only closing in {rules.name}")
    if ctx.signal.action.side not in (None, _ONLY[mode]):
        return Denial(
            code=Reason.SYMBOL_BLOCKED, detail=f"the broker allows only {_ONLY[mode].value} positions in {rules.name}"
        )
    return None


def _order_type(ctx: Context, rules: SymbolInfo) -> Denial | None:
    bit = _MODE_BITS.get(ctx.signal.action, 0)
    # An order mode of 0 would allow nothing at all: a symbol that is traded says so by mistake.
    if rules.order_mode and bit and not rules.order_mode & bit:
        return Denial(code=Reason.UNSUPPORTED, detail=f"{rules.name} does not take {ctx.signal.action.value} orders")
    return None


def quoted(ctx: Context) -> Denial | None:
    """The symbol must have a bid and an ask; the first tick after selection may be empty."""
    quote = ctx.quote
    if quote is None or not (0 < quote.bid < inf and 0 < quote.ask < inf):  # not even where one is no number
        return Denial(code=Reason.NO_QUOTE, detail=f"there is no price of {ctx.signal.symbol} yet")
    return None
