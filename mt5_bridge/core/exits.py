"""What a CLOSE, MODIFY, CANCEL or CLOSE_BY means for the tickets there are: pure planning, no sending.

A CLOSE goes to the ticket in `position`, or to what `target_signal_id` opened, or to all positions of the symbol with
the bridge's magics, oldest first, up to `volume`; never beyond what is held.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_DOWN, Decimal

import msgspec

from mt5_bridge.core.decision import Denial
from mt5_bridge.core.guards.reducing import reduces_risk
from mt5_bridge.core.messages import Reason, TradingSignal
from mt5_bridge.core.model import Action, Deed, Order, OrderRequest, OrderType, Position, Quote, SymbolInfo
from mt5_bridge.core.times import parse_time


class Close(msgspec.Struct, frozen=True):
    """Close `volume` lots of a position."""

    position: Position
    volume: float


def choose(
    signal: TradingSignal,
    symbol: str,
    positions: Sequence[Position],
    ours: Callable[[Position], bool],
    target_magics: frozenset[int] = frozenset(),
    target_tickets: frozenset[int] = frozenset(),
) -> list[Position] | Denial:
    """The positions a CLOSE is about, oldest first.

    Args:
        signal: the CLOSE.
        symbol: its symbol as the terminal names it.
        positions: all open positions.
        ours: whether a position was opened by this bridge.
        target_magics: magics of the intents of `target_signal_id`.
        target_tickets: tickets those intents were journalled with.
    """
    if signal.position:
        found = [p for p in positions if p.ticket == signal.position]
        what = f"position {signal.position}"
    elif signal.target_signal_id:
        found = [p for p in positions if p.magic in target_magics or p.ticket in target_tickets]
        what = f"a position opened by signal {signal.target_signal_id}"
    else:
        found = [p for p in positions if p.symbol == symbol and ours(p)]
        what = f"a position of this bridge in {symbol}"
    if not found:
        return Denial(code=Reason.NOT_FOUND, detail=f"there is no {what}" if signal.position else f"not found: {what}")
    if any(p.symbol != symbol for p in found):
        return Denial(code=Reason.INVALID, detail=f"{what} is not in {symbol}")
    return sorted(found, key=lambda p: (p.time_msc, p.ticket))


def share_out(
    positions: Sequence[Position],
    volume: float | None,
    symbol: SymbolInfo,
    owned: Mapping[int, float] | None = None,
) -> list[Close] | Denial:
    """How much of each position to close, oldest first, up to `volume` and to what is held (or owned of it).

    Args:
        positions: oldest first.
        volume: lots asked for; None closes all.
        symbol: for the volume step, down to which every part is rounded, and the minimum.
        owned: per ticket, the lots that are ours; a missing ticket is ours whole.
    """
    left = None if volume is None else Decimal(str(volume))
    step = Decimal(str(symbol.volume_step))
    legs: list[Close] = []
    for position in positions:
        held = Decimal(str(position.volume))
        mine = held if owned is None else min(held, Decimal(str(owned.get(position.ticket, position.volume))))
        part = mine if left is None else min(mine, left)
        if part != held and step > 0:
            part = (part / step).to_integral_value(ROUND_DOWN) * step
        if part < Decimal(str(symbol.volume_min)) and part != held:
            continue
        if part > 0:
            legs.append(Close(position, float(part)))
            left = None if left is None else left - part
    if not legs:
        asked = "what is ours" if volume is None else f"{volume:g} lots"
        return Denial(
            code=Reason.BELOW_MIN_VOLUME,
            detail=f"{asked} of {symbol.name} cannot be closed: the minimum is {symbol.volume_min:g}, "
            f"the step {symbol.volume_step:g}",
            limit=symbol.volume_min,
            value=volume,
        )
    return legs


def close_request(
    close: Close, quote: Quote | None, *, magic: int, comment: str, deviation_points: int
) -> OrderRequest:
    """The market order that closes it: the opposite side at the price on that side, None: of when it is sent."""
    side = close.position.side.opposite
    return OrderRequest(
        deed=Deed.DEAL,
        symbol=close.position.symbol,
        type=OrderType.BUY if side.value == "buy" else OrderType.SELL,
        volume=close.volume,
        price=quote.price_to_close(close.position.side) if quote else 0.0,
        deviation_points=deviation_points,
        magic=magic,
        comment=comment,
        position=close.position.ticket,
    )


def close_by_request(
    signal: TradingSignal, positions: Mapping[int, Position], *, magic: int, comment: str
) -> OrderRequest | Denial:
    """Close a position by an opposite one of the same symbol (hedging accounts)."""
    first, second = positions.get(signal.position or 0), positions.get(signal.order or 0)
    if first is None or second is None:
        missing = signal.position if first is None else signal.order
        return Denial(code=Reason.NOT_FOUND, detail=f"there is no position {missing}")
    if first.symbol != second.symbol or first.side is second.side:
        return Denial(
            code=Reason.INVALID,
            detail=f"{first.ticket} ({first.side.value} {first.symbol}) and {second.ticket} "
            f"({second.side.value} {second.symbol}) are not opposite positions of one symbol",
        )
    return OrderRequest(
        deed=Deed.CLOSE_BY,
        symbol=first.symbol,
        type=OrderType.CLOSE_BY,
        position=first.ticket,
        position_by=second.ticket,
        magic=magic,
        comment=comment,
    )


def find_target(
    signal: TradingSignal,
    positions: Sequence[Position],
    orders: Sequence[Order],
    target_magics: frozenset[int] = frozenset(),
    target_tickets: frozenset[int] = frozenset(),
) -> Position | Order | Denial:
    """The one position or pending order a MODIFY or CANCEL is about; a CANCEL looks at pending orders only."""
    found: list[Position | Order] = []
    if signal.action is Action.MODIFY:
        found += [
            p
            for p in positions
            if p.ticket == signal.position
            or (not signal.position and not signal.order and (p.magic in target_magics or p.ticket in target_tickets))
        ]
    wanted = signal.order or (signal.position if signal.action is Action.CANCEL else None)
    if wanted or not signal.position:
        found += [
            o
            for o in orders
            if o.ticket == wanted or (not wanted and (o.magic in target_magics or o.ticket in target_tickets))
        ]
    if not found:
        name = signal.order or signal.position or f"of signal {signal.target_signal_id}"
        kind = "pending order" if signal.action is Action.CANCEL or signal.order else "position or pending order"
        return Denial(code=Reason.NOT_FOUND, detail=f"there is no {kind} {name}")
    if len(found) > 1:
        return Denial(
            code=Reason.INVALID,
            detail=f"signal {signal.target_signal_id} has {len(found)} tickets: name one in position or order",
        )
    return found[0]


def modify_request(signal: TradingSignal, target: Position | Order, *, magic: int) -> OrderRequest:
    """What MODIFY changes; what the signal leaves out stays as it is, 0 takes a stop or target away.

    A position's are held against what it has by then: between the read and the send its stop may have moved on, and
    one judged to tighten must not loosen.
    """
    stop = target.stop_loss if signal.stop_loss is None else signal.stop_loss
    take = target.take_profit if signal.take_profit is None else signal.take_profit
    if isinstance(target, Position):
        return OrderRequest(
            deed=Deed.SLTP,
            symbol=target.symbol,
            position=target.ticket,
            type=OrderType.of(target.side),
            stop_loss=stop,
            take_profit=take,
            magic=magic,
            nearer_only=signal.stop_loss is not None and reduces_risk(signal, target),
            keeps_stop=signal.stop_loss is None,
            keeps_target=signal.take_profit is None,
        )
    return OrderRequest(
        deed=Deed.MODIFY,
        symbol=target.symbol,
        order=target.ticket,
        type=target.type,
        volume=target.volume_current,
        price=signal.price or target.price,
        stop_limit_price=signal.stop_limit_price or target.stop_limit_price,
        stop_loss=stop,
        take_profit=take,
        expiration_msc=target.expiration_msc if signal.expiration is None else parse_time(signal.expiration),
        magic=magic,
    )


def cancel_request(target: Order, *, magic: int) -> OrderRequest:
    """Take a pending order away."""
    return OrderRequest(deed=Deed.REMOVE, symbol=target.symbol, order=target.ticket, magic=magic)


def opening_request(
    signal: TradingSignal, symbol: SymbolInfo, quote: Quote, *, volume: float, magic: int, comment: str, deviation: int
) -> OrderRequest:
    """The order of an opening signal: at the market, or pending at its price."""
    side = signal.action.side
    assert side is not None
    pending = signal.action.is_pending
    return OrderRequest(
        deed=Deed.PENDING if pending else Deed.DEAL,
        symbol=symbol.name,
        type=OrderType[signal.action.value],
        volume=volume,
        price=signal.price or 0.0 if pending else quote.price_to_open(side),
        stop_limit_price=signal.stop_limit_price or 0.0 if pending else 0.0,
        stop_loss=signal.stop_loss or 0.0,
        take_profit=signal.take_profit or 0.0,
        deviation_points=deviation if signal.deviation_points is None else signal.deviation_points,
        expiration_msc=0 if signal.expiration is None else parse_time(signal.expiration),
        magic=magic,
        comment=comment,
    )
