"""Readiness (P8): connected, reconciled, trading allowed by terminal, account and broker. Source: the readiness list of
`terminal_info()` and `account_info()`.

What raises risk also needs a journal that can be written; what reduces it does not. The emergency stop tries anyway.
"""

import msgspec

from mt5_bridge.core.decision import Context, Denial, Requester
from mt5_bridge.core.guards.reducing import reduces_risk
from mt5_bridge.core.messages import Reason

_NO_ACCOUNT = Denial(code=Reason.NOT_READY, detail="the account is not known yet")


def readiness(ctx: Context) -> Denial | None:
    """The terminal must be able to trade, and journal and terminal reconciled."""
    facts = ctx.readiness
    why_not = facts.why_not
    if why_not is None and ctx.account is not None:
        return None
    if ctx.requester is Requester.EMERGENCY and reduces_risk(ctx.signal, ctx.target):
        return None
    missing = msgspec.structs.replace(facts, journal_healthy=True).why_not
    if missing is not None:
        return Denial(code=Reason.NOT_READY, detail=missing)
    if reduces_risk(ctx.signal, ctx.target):
        return None
    if ctx.account is None:
        return _NO_ACCOUNT
    assert why_not is not None
    return Denial(code=Reason.JOURNAL_UNAVAILABLE, detail=why_not)
