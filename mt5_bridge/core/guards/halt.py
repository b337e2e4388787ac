"""The emergency stop's guard (P3). Source: the halt rules. No setting skips it, and it is asked once more right before
an order is sent, with the latch as it is then.

HALTED denies every signal; a person may still close, cancel and tighten stops. REDUCING passes what reduces risk. The
stop's own cancels and closes pass by origin.
"""

from mt5_bridge.core.decision import Context, Denial, Requester
from mt5_bridge.core.guards.reducing import reduces_risk
from mt5_bridge.core.halt import Halt, HaltState
from mt5_bridge.core.messages import Reason, TradingSignal
from mt5_bridge.core.model import Order, Position


def halt(ctx: Context) -> Denial | None:
    """While HALTED no signal passes, while REDUCING only what reduces risk; a person may always reduce it."""
    return check_halt(ctx.signal, ctx.halt, requester=ctx.requester, target=ctx.target)


def check_halt(
    signal: TradingSignal,
    latch: Halt,
    *,
    requester: Requester = Requester.SIGNAL,
    target: Position | Order | None = None,
) -> Denial | None:
    """Whether the latch lets the request pass now.

    Args:
        signal: what is asked.
        latch: the halt state at this very moment.
        requester: on whose word.
        target: what a MODIFY changes, as the terminal holds it.
    """
    if latch.state is HaltState.ACTIVE:
        return None
    halted = latch.state is HaltState.HALTED
    if reduces_risk(signal, target) and not (halted and requester is Requester.SIGNAL):
        return None
    why = f": {latch.reason}" if latch.reason else ""
    return Denial(
        code=Reason.HALTED if halted else Reason.REDUCING,
        detail=f"trading is {latch.state.value} by {latch.by or 'a person'}{why}",
    )
