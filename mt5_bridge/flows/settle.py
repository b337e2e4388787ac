"""What became of an order whose outcome is unknown: looked up until found, never sent again (P2).

An intent is found by its magic in the pending orders, the positions, the orders and the deals of the past, or by the
state it wanted to bring about. Not found counts only after a complete read at least SETTLE_WINDOW after the send and
after the terminal came back: history may lag.
"""

import asyncio
from collections.abc import Sequence

import msgspec
from loguru import logger

from mt5_bridge.core.errors import MT5ConnectionError, MT5Error
from mt5_bridge.core.intent import IntentState, low_half, magic_base
from mt5_bridge.core.model import Deal, DealEntry, Deed, Order, OrderRequest, OrderState, Position
from mt5_bridge.core.times import DAY, MINUTE
from mt5_bridge.flows.clock import Clock
from mt5_bridge.terminal.port import Priority, Terminal

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
_SHARED_MS = 1000
_SAME_PRICE = 1e-9
_SAME_VOLUME = 1e-9


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """An intent to look for: what was sent, when (UTC ms), and the volume its position had before, for a close."""

    magic: int
    request: OrderRequest
    sent_msc: int
    volume_before: float | None = None


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it. `volume` in lots, `price` the mean of its deals.

    Attributes:
        state: UNKNOWN while the terminal still works on it.
        whole: False while history may still lack a part of the truth: look again within the settle window.
    """

    state: IntentState
    whole: bool = True
    order: int | None = None
    deal: int | None = None
    position: int | None = None
    volume: float | None = None
    price: float | None = None
    detail: str | None = None


class Picture(msgspec.Struct, frozen=True):
    """One complete read of everything an intent can have left a trace in."""

    positions: Sequence[Position]
    orders: Sequence[Order]
    past_orders: Sequence[Order]
    deals: Sequence[Deal]


class Earlier(msgspec.Struct, frozen=True):
    """What there was a moment ago, read once for many signals that an earlier life may have executed.

    Attributes:
        picture: everything an intent can have left a trace in.
        marks: magics in it by their low half, which tells the signal and leg whatever MT5_MAGIC was.
        since_msc: as far back as was asked for, UTC ms.
        read_msc: when, UTC ms.
    """

    picture: Picture
    marks: dict[int, int]
    since_msc: int
    read_msc: int

    def magic_like(self, magic: int) -> int | None:
        """The magic under which an earlier life sent what would have this one now; None: it left no trace."""
        return self.marks.get(low_half(magic))


def judge(case: Case, picture: Picture) -> Found | None:
    """What the picture says of an intent; None when it shows no trace."""
    request = case.request
    if request.deed in (Deed.DEAL, Deed.PENDING, Deed.CLOSE_BY):
        live = next((order for order in picture.orders if order.magic == case.magic), None)
        if live is not None:
            return _still_there(request, live)
        return _by_deals(case, picture) or _by_orders(case, picture) or _by_position(case, picture)
    if request.deed is Deed.SLTP:
        return _stops_set(request, picture.positions)
    if request.deed is Deed.MODIFY:
        return _order_modified(request, picture.orders)
    return _order_removed(request, picture)


def _still_there(request: OrderRequest, order: Order) -> Found:
    """A pending order has its place; a market order in the list is still being executed."""
    state = IntentState.PLACED if request.deed is Deed.PENDING else IntentState.UNKNOWN
    return Found(state=state, order=order.ticket, volume=order.volume_current, price=order.price)


def _by_deals(case: Case, picture: Picture) -> Found | None:
    request = case.request
    orders = {o.ticket for o in picture.past_orders if o.magic == case.magic}
    deals = [d for d in picture.deals if d.is_trade and (d.magic == case.magic or d.order in orders)]
    if request.deed is Deed.CLOSE_BY and not deals:
        gone = {request.position, request.position_by}
        deals = [
            d
            for d in picture.deals
            if d.entry is DealEntry.OUT_BY and d.position_id in gone and d.time_msc >= case.sent_msc - 1000
        ]
    if not request.position and request.deed is not Deed.CLOSE_BY:
        # Stops and targets close with the position's magic too: the opening order is the first of them.
        first = min((d.order for d in deals), default=0)
        deals = [d for d in deals if d.order == first]
    if not deals:
        return None
    if request.deed is Deed.CLOSE_BY:
        # It books a deal on either position.
        deals = [d for d in deals if d.position_id == request.position] or deals
    volume = sum(d.volume for d in deals)
    partial = volume < request.volume - _SAME_VOLUME
    full = IntentState.CLOSED if request.position else IntentState.FILLED
    return Found(
        state=IntentState.PARTIAL if partial else full,
        whole=not partial or any(o.ticket == deals[0].order for o in picture.past_orders),
        order=deals[0].order,
        deal=deals[-1].ticket,
        position=deals[0].position_id or None,
        volume=volume,
        price=sum(d.price * d.volume for d in deals) / volume if volume else None,
    )


def _by_orders(case: Case, picture: Picture) -> Found | None:
    for order in picture.past_orders:
        if order.magic != case.magic:
            continue
        if order.state is OrderState.REJECTED:
            return Found(state=IntentState.REJECTED, order=order.ticket, detail="the server rejected the order")
        if order.state in (OrderState.CANCELED, OrderState.EXPIRED):
            placed = case.request.deed is Deed.PENDING
            return Found(
                state=IntentState.CANCELLED if placed else IntentState.REJECTED,
                order=order.ticket,
                detail=f"the order ended {order.state.name.lower()}",
            )
    return None


def _by_position(case: Case, picture: Picture) -> Found | None:
    request = case.request
    if not request.position:
        for position in picture.positions:
            if position.magic == case.magic:
                whole = position.volume >= request.volume - _SAME_VOLUME
                return Found(
                    state=IntentState.FILLED if whole else IntentState.PARTIAL,
                    whole=whole,
                    order=position.identifier or None,
                    position=position.ticket,
                    volume=position.volume,
                    price=position.price_open,
                )
    return None


def _stops_set(request: OrderRequest, positions: Sequence[Position]) -> Found | None:
    for position in positions:
        if position.ticket == request.position:
            if request.as_it_stands and position.side is not request.type.side:
                break
            stop, target = request.stops(position.stop_loss, position.take_profit)
            done = _same(position.stop_loss, stop) and _same(position.take_profit, target)
            return Found(state=IntentState.MODIFIED, position=position.ticket) if done else None
    return Found(state=IntentState.REJECTED, position=request.position, detail="the position is gone")


def _order_modified(request: OrderRequest, orders: Sequence[Order]) -> Found | None:
    for order in orders:
        if order.ticket == request.order:
            same = (
                _same(order.price, request.price)
                and _same(order.stop_loss, request.stop_loss)
                and _same(order.take_profit, request.take_profit)
            )
            return Found(state=IntentState.MODIFIED, order=order.ticket) if same else None
    return Found(state=IntentState.REJECTED, order=request.order, detail="the pending order is gone")


def _order_removed(request: OrderRequest, picture: Picture) -> Found | None:
    if any(order.ticket == request.order for order in picture.orders):
        return None
    past = next((o for o in picture.past_orders if o.ticket == request.order), None)
    if past is not None and past.state is OrderState.FILLED:
        return Found(state=IntentState.REJECTED, order=request.order, detail="the pending order filled before")
    return Found(state=IntentState.CANCELLED, whole=past is not None, order=request.order)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= _SAME_PRICE * max(1.0, abs(one))


def _marks(picture: Picture) -> dict[int, int]:
    lists: tuple[Sequence[Position | Order | Deal], ...] = (
        picture.deals,
        picture.past_orders,
        picture.orders,
        picture.positions,
    )
    # Without a high half it is somebody else's.
    return {low_half(each.magic): each.magic for some in lists for each in some if magic_base(each.magic)}


class Settler:
    """Looks unknown intents up until they are resolved.

    Args:
        terminal: where to look.
        clock: time.
        window_s: SETTLE_WINDOW.
    """

    def __init__(self, terminal: Terminal, clock: Clock, *, window_s: float) -> None:
        self._terminal = terminal
        self._clock = clock
        self._window_ms = int(window_s * 1000)
        self._connected_msc = 0
        self._sharing = asyncio.Lock()
        self._earlier: Earlier | None = None
        self.open: dict[int, Case] = {}
        self.resolved = 0
        self.abandoned = 0

    def reconnected(self) -> None:
        """The terminal came back: what it shows from now on is judged, after the window."""
        self._connected_msc = self._clock.now_ms()

    async def look(self, case: Case, *, priority: Priority = Priority.HIGH) -> Found | None:
        """One complete read and its verdict.

        Raises:
            MT5Error: the read was not complete; it says nothing.
        """
        return judge(case, await self.picture(case.sent_msc, priority=priority))

    async def picture(self, since_msc: int, *, priority: Priority = Priority.HIGH) -> Picture:
        """Everything there is, and what there was since a day before that time (UTC ms).

        Raises:
            MT5Error: the read was not complete; it says nothing.
        """
        snapshot = await self._terminal.snapshot(priority=priority)
        if not snapshot.terminal.connected:
            # Not found there is no proof: a terminal that has just started may know of nothing yet. Nor is its history
            # whole in the moment its server has come back.
            self.reconnected()
            raise MT5ConnectionError("the terminal has no connection to its trade server")
        since, until = since_msc - DAY, self._clock.now_ms() + DAY
        past = await self._terminal.get_history_orders(since, until, priority=priority)
        deals = await self._terminal.get_history_deals(since, until, priority=priority)
        return Picture(snapshot.positions, snapshot.orders, past, deals)

    async def earlier(self, since_msc: int) -> Earlier:
        """A `picture` at most a second old, shared: what an earlier life did does not change any more.

        Raises:
            MT5Error: the read was not complete; it says nothing.
        """
        async with self._sharing:
            now, last = self._clock.now_ms(), self._earlier
            if last is None or since_msc < last.since_msc or not 0 <= now - last.read_msc < _SHARED_MS:
                since = min(since_msc, now - MINUTE)
                picture = await self.picture(since)
                last = self._earlier = Earlier(picture, _marks(picture), since, now)
            return last

    async def fill(self, case: Case, order: int) -> Found | None:
        """What the deals of an order that has just filled come to; None while history lacks them.

        Raises:
            MT5Error: they cannot be read.
        """
        deals = await self._terminal.get_history_deals(ticket=order, priority=Priority.HIGH)
        return _by_deals(case, Picture((), (), (), [deal for deal in deals if deal.order == order]))

    async def resolve(self, case: Case) -> Found:
        """Look until found, or until the settle window has passed in vain: then ABANDONED."""
        self.open[case.magic] = case
        pause = _FIRST_PAUSE_S
        while True:
            started = self._clock.now_ms()
            try:
                found = await self.look(case)
            except MT5Error as error:
                logger.bind(event="look_up_failed", magic=case.magic).warning(
                    "Order with magic {magic} cannot be looked up yet: {error}", magic=case.magic, error=error
                )
            else:
                over = started - max(case.sent_msc, self._connected_msc) >= self._window_ms
                if found is None and over:
                    found = _not_found(case, self._window_ms)
                if found is not None and not found.state.open and (found.whole or over):
                    self.open.pop(case.magic, None)
                    self.resolved += found.state is not IntentState.ABANDONED
                    self.abandoned += found.state is IntentState.ABANDONED
                    return found
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)


def _not_found(case: Case, window_ms: int) -> Found:
    if case.request.deed in (Deed.SLTP, Deed.MODIFY, Deed.REMOVE):
        return Found(
            state=IntentState.REJECTED,
            order=case.request.order or None,
            position=case.request.position or None,
            detail="the terminal shows no effect",
        )
    return Found(
        state=IntentState.ABANDONED,
        detail=f"no trace in orders, positions and history {window_ms / 1000:g} s after the send; check the terminal",
    )
