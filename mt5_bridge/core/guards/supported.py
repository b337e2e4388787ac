"""What a signal may ask for and the bridge does not do. Source: the contract's fields.

A stop that is believed to trail and does not is worse than a signal refused.
"""

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Action

_FIELDS = ("trailing_stop_points", "break_even_points")


def supported(ctx: Context) -> Denial | None:
    """What the bridge does not do, such as moving a stop along, must not be asked of it."""
    if not (ctx.signal.action.opens or ctx.signal.action is Action.MODIFY):
        return None
    asked = [name for name in _FIELDS if getattr(ctx.signal, name)]
    if not asked:
        return None
    return Denial(code=Reason.UNSUPPORTED, detail=f"this version of the bridge does not do {' and '.join(asked)}")
