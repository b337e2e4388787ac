"""Where a managed stop belongs: behind the price, or at the open price, and never further back. Pure.

A plan comes with a signal: `trailing_stop_points` and `break_even_points`. Both begin when the position is that many
points in profit, as the terminal's own trailing stop does; until then the stop of the signal stands. The stop at the
broker is the only memory, so that a restart at any moment ends with the same stop.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec

from mt5_bridge.core.messages import Reason, TradingSignal
from mt5_bridge.core.model import Position, Side, SymbolInfo

STEPS = 50
"""A trailing stop moves by at least this part of its distance (or one tick): each move is a request to the broker."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a position's stop is managed, in points of its symbol. 0: not so; None: as an earlier plan says."""

    trailing_points: int | None = None
    break_even_points: int | None = None

    @property
    def active(self) -> bool:
        """Whether there is anything to manage."""
        return bool(self.trailing_points or self.break_even_points)


class Move(msgspec.Struct, frozen=True):
    """Where the stop is to go, and by which half of the plan: `trailing_stop` or `break_even`."""

    stop: float
    why: Reason


def plan_of(signal: TradingSignal) -> Plan | None:
    """The plan a signal carries; None: it says nothing of one."""
    trailing, even = signal.trailing_stop_points, signal.break_even_points
    if trailing is None and even is None:
        return None
    return Plan(trailing_points=trailing, break_even_points=even)


def joined(plan: Plan, earlier: Plan | None) -> Plan:
    """A plan with what it leaves open taken from the one it follows."""
    before = earlier or Plan()
    trailing = before.trailing_points if plan.trailing_points is None else plan.trailing_points
    even = before.break_even_points if plan.break_even_points is None else plan.break_even_points
    return Plan(trailing_points=trailing or 0, break_even_points=even or 0)


def left_of(plan: Plan, position: Position) -> Plan:
    """What a plan still has to do: the stop goes to the open price once, and is not brought back there later."""
    if not plan.break_even_points or position.stop_loss <= 0:
        return plan
    done = _gain(position.side, position.stop_loss) >= _gain(position.side, position.price_open)
    return msgspec.structs.replace(plan, break_even_points=0) if done else plan


def next_stop(position: Position, price: float, symbol: SymbolInfo, plan: Plan) -> Move | None:
    """Where the stop of a position belongs now; None: where it is.

    Args:
        position: as the terminal shows it.
        price: at which it would close now: a long's bid, a short's ask.
        symbol: its rules. Nearer than `stops_level` no stop is put: break-even waits, and a trailing stop keeps that
            distance. Within `freeze_level` of stop or target nothing is moved.
        plan: what was asked for.

    Returns:
        A stop at least one step nearer to the price than the one that stands, on the symbol's grid of prices.
    """
    if price <= 0 or symbol.point <= 0 or not _near(plan, position, price, symbol.point):
        return None
    # Measured as gain, more is better for either side: a short is a long seen in a mirror.
    now, opened = _gain(position.side, round(price, symbol.digits)), _gain(position.side, position.price_open)
    stop = _gain(position.side, round(position.stop_loss, symbol.digits)) if position.stop_loss > 0 else None
    if _frozen(position, now, symbol):
        return None
    point, tick = _exact(symbol.point), _tick(symbol)
    best: tuple[Decimal, Reason] | None = None
    for wanted, step, why in _wishes(plan, now, opened, point, tick, symbol.stops_level):
        allowed = wanted < now and wanted <= now - symbol.stops_level * point
        if allowed and (stop is None or wanted - stop >= step) and (best is None or wanted > best[0]):
            best = wanted, why
    if best is None:
        return None
    return Move(float(round(abs(best[0]), symbol.digits)), best[1])


def _near(plan: Plan, position: Position, price: float, point: float) -> bool:
    """Whether there may be anything to do, a point more or less: most looks find nothing, and cost a float or two."""
    sign = 1 if position.side is Side.BUY else -1
    profit = sign * (price - position.price_open) / point
    if plan.break_even_points and profit >= plan.break_even_points - 1:
        return True
    trailing = plan.trailing_points
    if not trailing or profit < trailing - 1:
        return False
    return position.stop_loss <= 0 or sign * (price - position.stop_loss) / point >= trailing + trailing / STEPS - 1


def _wishes(
    plan: Plan, now: Decimal, opened: Decimal, point: Decimal, tick: Decimal, stops_level: int
) -> list[tuple[Decimal, Decimal, Reason]]:
    """Where either half of the plan wants the stop, by at least which step, and which half it is; as gains."""
    wishes, profit = [], now - opened
    if plan.break_even_points and profit >= plan.break_even_points * point:
        even = (opened / tick).to_integral_value(ROUND_CEILING) * tick
        wishes.append((even, tick, Reason.BREAK_EVEN))
    if plan.trailing_points and profit >= plan.trailing_points * point:
        behind = now - max(plan.trailing_points, stops_level) * point
        step = max(tick, plan.trailing_points * point / STEPS)
        wishes.append(((behind / tick).to_integral_value(ROUND_FLOOR) * tick, step, Reason.TRAILING_STOP))
    return wishes


def _frozen(position: Position, now: Decimal, symbol: SymbolInfo) -> bool:
    level = symbol.freeze_level * _exact(symbol.point)
    levels = [_gain(position.side, at) for at in (position.stop_loss, position.take_profit) if at > 0]
    return level > 0 and any(abs(now - at) <= level for at in levels)


def _tick(symbol: SymbolInfo) -> Decimal:
    return _exact(symbol.tick_size if symbol.tick_size > 0 else symbol.point)


def _gain(side: Side, price: float) -> Decimal:
    return _exact(price) if side is Side.BUY else -_exact(price)


def _exact(value: float) -> Decimal:
    return Decimal(repr(value))
