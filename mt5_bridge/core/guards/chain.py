"""The chain: which guards a request meets, in which order. Only the chain acts on what a guard says.

An opening meets `OPENING_GUARDS`, is then sized, meets `SIZED_GUARDS` with the volume proposed, and `LAST_GUARDS`. A
MODIFY that raises risk meets `MODIFY_GUARDS` and the same way on. What reduces risk meets `EXIT_GUARDS` only. The halt
guard stands first, so that a stopped bridge answers `halted`, and last, and is asked again next to the send.
"""

from collections.abc import Callable

from mt5_bridge.core.decision import Approval, Context, Denial
from mt5_bridge.core.guards.account import account
from mt5_bridge.core.guards.blocked import blocked
from mt5_bridge.core.guards.collar import collar
from mt5_bridge.core.guards.day import daily_loss, daily_trades, drawdown
from mt5_bridge.core.guards.drift import drift
from mt5_bridge.core.guards.halt import halt
from mt5_bridge.core.guards.margin import margin, margin_level
from mt5_bridge.core.guards.pending import pending
from mt5_bridge.core.guards.positions import positions
from mt5_bridge.core.guards.readiness import readiness
from mt5_bridge.core.guards.reducing import reduces_risk
from mt5_bridge.core.guards.risk import open_risk, risk
from mt5_bridge.core.guards.spread import spread
from mt5_bridge.core.guards.staleness import staleness
from mt5_bridge.core.guards.stops import stop_required, stops
from mt5_bridge.core.guards.supported import supported
from mt5_bridge.core.guards.symbol import quoted, symbol
from mt5_bridge.core.guards.target import target
from mt5_bridge.core.guards.throttle import throttle
from mt5_bridge.core.guards.trading import trading_enabled
from mt5_bridge.core.guards.volume import held_of, resize, size, volume
from mt5_bridge.core.model import Action

Guard = Callable[[Context], Denial | None]
SizedGuard = Callable[[Context, Approval], Denial | None]

OPENING_GUARDS: tuple[Guard, ...] = (
    trading_enabled,
    account,
    halt,
    staleness,
    supported,
    readiness,
    symbol,
    blocked,
    quoted,
    stop_required,
    pending,
    stops,
    spread,
    drift,
    collar,
    daily_loss,
    drawdown,
    daily_trades,
    positions,
)
MODIFY_GUARDS: tuple[Guard, ...] = (
    trading_enabled,
    account,
    halt,
    staleness,
    supported,
    readiness,
    target,
    symbol,
    quoted,
    stop_required,
    pending,
    stops,
    collar,
    daily_loss,
    drawdown,
)
SIZED_GUARDS: tuple[SizedGuard, ...] = (volume, risk, open_risk, margin, margin_level)
RESIZED_GUARDS: tuple[SizedGuard, ...] = (risk, open_risk)
LAST_GUARDS: tuple[Guard, ...] = (throttle, halt)
EXIT_GUARDS: tuple[Guard, ...] = (trading_enabled, account, halt, staleness, supported, readiness, target, halt)
EARLY_GUARDS: tuple[Guard, ...] = (trading_enabled, account, halt, staleness)
"""With what every request begins: they need nothing but the signal, the settings, the latch and the account."""


def evaluate(ctx: Context) -> Approval | Denial:
    """What to do with a request: the volume to send, or the first rule against it.

    The volume of a CLOSE is the smaller of what is asked and what is held, of a MODIFY that of its target, of a CANCEL
    0. A denial `throttled` says that every other rule is met.
    """
    if ctx.signal.action.opens:
        return _judge(ctx, OPENING_GUARDS, size, SIZED_GUARDS)
    if ctx.signal.action is Action.MODIFY and not reduces_risk(ctx.signal, ctx.target):
        return _judge(ctx, MODIFY_GUARDS, resize, RESIZED_GUARDS)
    return _first(EXIT_GUARDS, ctx) or _exit(ctx)


def early(ctx: Context) -> Denial | None:
    """What can be said against a request before anything is known of its symbol and target; `evaluate` says it too."""
    return _first(EARLY_GUARDS, ctx)


def _judge(
    ctx: Context,
    before: tuple[Guard, ...],
    sized: Callable[[Context], Approval | Denial],
    after: tuple[SizedGuard, ...],
) -> Approval | Denial:
    denial = _first(before, ctx)
    if denial is not None:
        return denial
    proposal = sized(ctx)
    if isinstance(proposal, Denial):
        return proposal
    for guard in after:
        denial = guard(ctx, proposal)
        if denial is not None:
            return denial
    return _first(LAST_GUARDS, ctx) or proposal


def _first(guards: tuple[Guard, ...], ctx: Context) -> Denial | None:
    for guard in guards:
        denial = guard(ctx)
        if denial is not None:
            return denial
    return None


def _exit(ctx: Context) -> Approval:
    found = ctx.target
    assert found is not None
    if ctx.signal.action is Action.CANCEL:
        return Approval(volume=0.0, risk=0.0)
    held = held_of(found)
    if ctx.signal.action is Action.MODIFY:
        return Approval(volume=held, risk=0.0)
    if ctx.target_by is not None:
        return Approval(volume=min(held, ctx.target_by.volume), risk=0.0)
    asked = ctx.signal.volume if ctx.volume is None else ctx.volume
    return Approval(volume=held if asked is None else min(asked, held), risk=0.0)
