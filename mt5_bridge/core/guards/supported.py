"""What a signal may ask for and the bridge does not do. Source: the contract's fields.

A pending order's managed stop comes with the order itself: one that is believed to be managed and is not would be worse
than a signal refused.
"""

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Action, Order
from mt5_bridge.core.trailing import plan_of


def supported(ctx: Context) -> Denial | None:
    """What the bridge does not do, such as giving a pending order a managed stop later, must not be asked of it."""
    if ctx.signal.action is not Action.MODIFY or not isinstance(ctx.target, Order) or plan_of(ctx.signal) is None:
        return None
    return Denial(
        code=Reason.UNSUPPORTED,
        detail="trailing_stop_points and break_even_points of a pending order come with it: cancel it, place it anew",
    )
