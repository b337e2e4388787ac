"""The right account. Source: the signal rules: one for another account is not ours to execute.

With SIGNAL_REQUIRE_ACCOUNT a signal that names no account runs only where the record's key is the login. The account
that answers must be the configured one: a second terminal can answer the pipe.
"""

from mt5_bridge.core.decision import Context, Denial, Requester
from mt5_bridge.core.messages import Reason


def account(ctx: Context) -> Denial | None:
    """The signal must be for the account this bridge trades, and that account must be the one logged in."""
    logged_in = ctx.account.login if ctx.account else None
    own = ctx.limits.account if ctx.limits.account is not None else logged_in
    if own is None:
        return Denial(code=Reason.NOT_READY, detail="the terminal's account is not known yet")
    if logged_in is not None and logged_in != own:
        return Denial(code=Reason.ACCOUNT_MISMATCH, detail=f"account {logged_in} answers, not {own}")
    return _addressed_to(ctx, own)


def _addressed_to(ctx: Context, own: int) -> Denial | None:
    if ctx.requester is not Requester.SIGNAL:
        return None
    wanted = ctx.signal.account
    if wanted is None or wanted == "":
        if ctx.limits.require_account and ctx.record_key != str(own):
            return Denial(
                code=Reason.ACCOUNT_MISMATCH,
                detail=f"SIGNAL_REQUIRE_ACCOUNT: neither the signal nor its record key names account {own}",
            )
        return None
    if str(wanted).strip() != str(own):
        return Denial(code=Reason.ACCOUNT_MISMATCH, detail=f"the signal is for account {wanted}, not {own}")
    return None
