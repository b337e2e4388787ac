"""The volume, lots: explicit or sized from risk, down to the symbol's step, never up to its minimum.

Sources: MAX_VOLUME, MAX_RISK_PERCENT; SYMBOL_VOLUME_MIN/MAX/STEP/LIMIT. An explicit volume or `risk_percent` above a
limit is denied, never silently cut; a volume sized from risk stays below every limit by itself. Where a signal has
both, the volume counts, and `risk_percent` must not exceed the limit.
"""

import math

from mt5_bridge.core import sizing
from mt5_bridge.core.decision import Approval, Context, Denial
from mt5_bridge.core.guards.terms import Terms, terms
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Order, Position, SymbolInfo

_NO_RISK_FIGURE = Denial(code=Reason.RISK, detail="the loss at the stop cannot be computed: no tick value, no profit")


def size(ctx: Context) -> Approval | Denial:
    """The volume of an opening, and what it risks and binds. Signals with `risk_percent` above the limit end here."""
    assert ctx.symbol is not None
    asked = terms(ctx)
    denial = _risk_percent_allowed(ctx)
    if denial is not None:
        return denial
    per_lot = loss_per_lot(ctx, asked)
    if per_lot is None and asked.stop_loss > 0:
        return _NO_RISK_FIGURE
    wish = ctx.signal.volume or _from_risk(ctx, ctx.symbol, per_lot)
    if isinstance(wish, Denial):
        return wish
    lots = sizing.round_volume_down(wish, ctx.symbol.volume_step)
    risk = lots * (per_lot or 0.0)
    return Approval(volume=lots, risk=risk, margin=lots * (ctx.margin_per_lot or 0.0))


def resize(ctx: Context) -> Approval | Denial:
    """The volume of a MODIFY's target is given; what it risks after the change is not. Margin it holds already."""
    target = ctx.target
    assert target is not None
    asked = terms(ctx)
    lots = held_of(target)
    if asked.stop_loss <= 0 or asked.loss_distance <= 0:
        return Approval(volume=lots, risk=0.0)
    per_lot = loss_per_lot(ctx, asked)
    if per_lot is None:
        return _NO_RISK_FIGURE
    return Approval(volume=lots, risk=lots * per_lot)


def loss_per_lot(ctx: Context, asked: Terms) -> float | None:
    """What one lot loses at the stop, account currency: the terminal's figure, else by contract; None: not known."""
    if asked.stop_loss <= 0:
        return None
    if ctx.loss_per_lot is not None and ctx.loss_per_lot > 0:
        return ctx.loss_per_lot
    assert ctx.symbol is not None
    return sizing.contract_loss_per_lot(ctx.symbol, asked.entry, asked.stop_loss)


def volume(ctx: Context, proposal: Approval) -> Denial | None:
    """The volume must be at least the symbol's minimum and at most MAX_VOLUME and the symbol's limits."""
    assert ctx.symbol is not None
    rules = ctx.symbol
    if proposal.volume < rules.volume_min or proposal.volume <= 0:
        return Denial(
            code=Reason.BELOW_MIN_VOLUME,
            detail=f"{proposal.volume:g} lots after rounding down, the minimum of {rules.name} is {rules.volume_min:g}",
            limit=rules.volume_min,
            value=proposal.volume,
        )
    wish = ctx.signal.volume or proposal.volume
    room = _room(ctx, rules)
    if wish <= room + 1e-9:
        return None
    return Denial(
        code=Reason.MAX_VOLUME, detail=f"{wish:g} lots, {max(room, 0.0):g} are allowed", limit=room, value=wish
    )


def _risk_percent_allowed(ctx: Context) -> Denial | None:
    percent, limit = ctx.signal.risk_percent, ctx.limits.max_risk_percent
    if percent is None or limit is None or percent <= limit:
        return None
    return Denial(
        code=Reason.RISK, detail=f"risk_percent {percent:g}, the limit is {limit:g} %", limit=limit, value=percent
    )


def _from_risk(ctx: Context, rules: SymbolInfo, per_lot: float | None) -> float | Denial:
    percent = ctx.signal.risk_percent if ctx.signal.risk_percent is not None else ctx.limits.max_risk_percent
    if percent is None or per_lot is None:
        return Denial(
            code=Reason.INVALID, detail="no volume, and no risk to size it from: risk_percent or MAX_RISK_PERCENT"
        )
    assert ctx.account is not None
    lots = sizing.volume_for_risk(ctx.account.equity, percent, per_lot)
    return max(0.0, min(lots, _room(ctx, rules)))


def _room(ctx: Context, rules: SymbolInfo) -> float:
    """How many lots may be asked for; infinitely many without any limit."""
    room = math.inf if ctx.limits.max_volume is None else ctx.limits.max_volume
    if rules.volume_max:
        room = min(room, rules.volume_max)
    if rules.volume_limit > 0:
        room = min(room, rules.volume_limit - _held(ctx, rules.name))
    return room


def _held(ctx: Context, name: str) -> float:
    """Lots of the symbol in the signal's direction: SYMBOL_VOLUME_LIMIT bounds positions and orders together."""
    side = ctx.signal.action.side
    return (
        sum(p.volume for p in ctx.positions if p.symbol == name and p.side is side)
        + sum(o.volume_current for o in ctx.orders if o.symbol == name and o.type.side is side)
        + sum(e.volume for e in ctx.in_flight if e.symbol == name and e.side is side)
    )


def held_of(target: Position | Order) -> float:
    """Lots of a position, or what is left of a pending order."""
    return target.volume if isinstance(target, Position) else target.volume_current
