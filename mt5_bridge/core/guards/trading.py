"""TRADING_ENABLED. Source: the settings; without it ticks flow and every signal is answered `trading_disabled`.

A person may still close, cancel and tighten: the setting restrains machines, it does not lock anybody in.
"""

from mt5_bridge.core.decision import Context, Denial, Requester
from mt5_bridge.core.guards.reducing import reduces_risk
from mt5_bridge.core.messages import Reason

_DENIED = Denial(code=Reason.TRADING_DISABLED, detail="TRADING_ENABLED is false")


def trading_enabled(ctx: Context) -> Denial | None:
    """Trading must be switched on; a person may reduce risk all the same."""
    if ctx.limits.trading_enabled:
        return None
    if ctx.requester is not Requester.SIGNAL and reduces_risk(ctx.signal, ctx.target):
        return None
    return _DENIED
