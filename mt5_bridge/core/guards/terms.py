"""The terms under which an order would stand: what a signal asks for, or what a MODIFY would make of its target.

Guards that look at prices share them, so that a modified pending is judged like a new one.
"""

import msgspec

from mt5_bridge.core.decision import Context
from mt5_bridge.core.model import Action, OrderType, Position, Quote, Side

_PENDING = {OrderType[action.value]: action for action in Action if action.is_pending}
_PRECISE = 1e11
"""Beyond it a float has no ten-thousandths left to round."""
STOP_LIMITS = frozenset({Action.BUY_STOP_LIMIT, Action.SELL_STOP_LIMIT})


class Terms(msgspec.Struct, frozen=True, gc=False):
    """An order's terms. Prices in quote currency, 0: absent.

    Attributes:
        side: its direction.
        pending: the kind of pending order, None for a market order or a position.
        price: where a pending is triggered; what a market signal says the price was.
        stop_limit_price: the limit price of a stop-limit order.
        entry: where it opens or has opened.
        stop_loss: its stop.
        take_profit: its target.
    """

    side: Side
    pending: Action | None
    price: float
    stop_limit_price: float
    entry: float
    stop_loss: float
    take_profit: float

    @property
    def loss_distance(self) -> float:
        """How far the stop is on the losing side of the entry; from 0 down it cannot lose."""
        return self.entry - self.stop_loss if self.side is Side.BUY else self.stop_loss - self.entry

    def stops_measured_from(self, quote: Quote) -> float:
        """Stops of a pending keep their distance from its entry, others from the price at which they would close."""
        return self.entry if self.pending else quote.price_to_close(self.side)


_latest: tuple[Context | None, Terms | None] = (None, None)


def terms(ctx: Context) -> Terms:
    """The terms of an opening, or of a MODIFY's target after the change. Needs the quote, and for MODIFY the target."""
    # Half a dozen guards ask in turn about the same context, so the last answer is kept; contexts are frozen.
    global _latest
    known, found = _latest
    if known is not ctx or found is None:
        found = _terms(ctx)
        _latest = (ctx, found)
    return found


def _terms(ctx: Context) -> Terms:
    signal, target = ctx.signal, ctx.target
    side = signal.action.side
    if side is not None:
        price = signal.price or 0.0
        stop_limit = signal.stop_limit_price or 0.0
        pending = None if signal.action.is_market else signal.action
        if pending is None:
            assert ctx.quote is not None
            entry = ctx.quote.price_to_open(side)
        else:
            entry = stop_limit if pending in STOP_LIMITS else price
        return Terms(side, pending, price, stop_limit, entry, signal.stop_loss or 0.0, signal.take_profit or 0.0)
    assert target is not None
    stop = target.stop_loss if signal.stop_loss is None else signal.stop_loss
    take = target.take_profit if signal.take_profit is None else signal.take_profit
    if isinstance(target, Position):
        return Terms(target.side, None, 0.0, 0.0, target.price_open, stop, take)
    price = signal.price or target.price
    stop_limit = signal.stop_limit_price or target.stop_limit_price
    pending = _PENDING.get(target.type)
    entry = stop_limit if pending in STOP_LIMITS else price
    return Terms(target.type.side, pending, price, stop_limit, entry, stop, take)


def points(distance: float, point: float) -> float:
    """A price distance in points, freed from binary noise. What is no number, or no finite one, stays so."""
    exact = distance / point
    # By way of a whole number of ten-thousandths: five times as fast as `round(exact, 4)`, which goes through text.
    return round(exact * 10_000) / 10_000 if abs(exact) < _PRECISE else exact
