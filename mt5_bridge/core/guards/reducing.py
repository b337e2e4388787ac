"""Which requests reduce risk. Source: the halt rules; judged per position, gross, never by what it does to the net.

CLOSE, CLOSE_BY (up to the volume held), CANCEL, and a MODIFY that tightens a stop or moves only the target. BUY and
SELL never: on a netting account an opposite order can reverse.
"""

from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import Action, Order, Position

_EXITS = frozenset({Action.CLOSE, Action.CLOSE_BY, Action.CANCEL})


def reduces_risk(signal: TradingSignal, target: Position | Order | None) -> bool:
    """True when the request can only lower risk. A MODIFY whose target is not known is not trusted to."""
    if signal.action in _EXITS:
        return True
    if signal.action is not Action.MODIFY or target is None:
        return False
    if isinstance(target, Order) and (signal.price or signal.stop_limit_price or signal.expiration is not None):
        return False
    return _stop_not_loosened(signal, target)


def _stop_not_loosened(signal: TradingSignal, target: Position | Order) -> bool:
    new, old = signal.stop_loss, target.stop_loss
    if new is None or new == old:
        return True
    side = target.side if isinstance(target, Position) else target.type.side
    return side.nearer(new, old)
