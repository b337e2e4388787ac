"""How much may be open at once: MAX_SIMULTANEOUS_TRADES, MAX_POSITIONS_PER_SYMBOL and, by class,
MAX_POSITIONS_FOREX/METAL/INDEX/CRYPTO.

Counted, each as one: open positions (manual ones too), pending orders (they can fill without asking again) and what is
in flight (P9). An opening counts as one more, on a netting account as well: the limits are about orders let in.
"""

from mt5_bridge.core.decision import Context, Denial
from mt5_bridge.core.guards.assets import asset_class
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import AssetClass


def positions(ctx: Context) -> Denial | None:
    """Positions, pendings and what is in flight must leave room for one more: in all, by symbol and by class."""
    assert ctx.symbol is not None
    limits, name = ctx.limits, ctx.symbol.name
    total = len(ctx.positions) + len(ctx.orders) + len(ctx.in_flight)
    denial = _full("all", total, limits.max_simultaneous_trades)
    if denial is not None or (limits.max_positions_per_symbol is None and not limits.max_positions_by_class):
        return denial
    open_in = [held.symbol for held in ctx.positions]
    open_in += [order.symbol for order in ctx.orders]
    open_in += [exposure.symbol for exposure in ctx.in_flight]
    denial = _full(name, open_in.count(name), limits.max_positions_per_symbol)
    if denial is None and limits.max_positions_by_class:
        known = ctx.classes.get
        group = known(name) or class_of(ctx, name)
        limit = limits.max_positions_by_class.get(group)
        if limit is not None:
            count = sum([(known(other) or class_of(ctx, other)) is group for other in open_in])
            denial = _full(group.value, count, limit)
    return denial


def class_of(ctx: Context, name: str) -> AssetClass:
    """The class of a symbol whose rules were not read before: the order's own by its rules, another's by its name."""
    return asset_class(ctx.symbol if ctx.symbol is not None and ctx.symbol.name == name else name)


def _full(where: str, count: int, limit: int | None) -> Denial | None:
    if limit is None or count < limit:
        return None
    return Denial(
        code=Reason.POSITIONS, detail=f"{count} positions in {where}, the limit is {limit}", limit=limit, value=count
    )
