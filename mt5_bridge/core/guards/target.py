"""What CLOSE, CLOSE_BY, MODIFY and CANCEL are about: there, and of the right kind.

Source: the terminal's complete lists.

The terminal judges the rest of an exit (stops, freeze level); an exit meets no limit.
"""

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Action, Order, Position
from mt5_bridge.core.trailing import plan_of


def target(ctx: Context) -> Denial | None:
    """The position or order must be there, of the symbol named, and of a kind that the action can act on."""
    found, action = ctx.target, ctx.signal.action
    if found is None:
        return Denial(code=Reason.NOT_FOUND, detail=f"there is nothing to {action.value} in {ctx.signal.symbol}")
    if ctx.symbol is not None and found.symbol != ctx.symbol.name:
        return _invalid(f"{found.ticket} is in {found.symbol}, not in {ctx.symbol.name}")
    if action is Action.CANCEL and not isinstance(found, Order):
        return _invalid(f"{found.ticket} is no pending order")
    if action in (Action.CLOSE, Action.CLOSE_BY) and not isinstance(found, Position):
        return _invalid(f"{found.ticket} is no position")
    if action is Action.CLOSE_BY:
        return _opposite(ctx, found)
    if action is Action.MODIFY:
        return _changes_something(ctx)
    return None


def _opposite(ctx: Context, found: Position | Order) -> Denial | None:
    other = ctx.target_by
    if other is None:
        return Denial(code=Reason.NOT_FOUND, detail=f"there is no position {ctx.signal.order}")
    assert isinstance(found, Position)
    if other.symbol != found.symbol or other.side is found.side:
        return _invalid(f"{found.ticket} and {other.ticket} are not opposite positions of one symbol")
    return None


def _changes_something(ctx: Context) -> Denial | None:
    signal = ctx.signal
    if signal.stop_loss is not None or signal.take_profit is not None or plan_of(signal) is not None:
        return None
    if isinstance(ctx.target, Order) and (signal.price or signal.stop_limit_price or signal.expiration is not None):
        return None
    return _invalid("MODIFY names nothing to change")


def _invalid(detail: str) -> Denial:
    return Denial(code=Reason.INVALID, detail=detail)
