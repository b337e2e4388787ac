"""The books: balance, positions, orders, deals. Pure bookkeeping: prices, times and money conversion come in.

At any time balance = Σ deals (profit + swap + commission + fee) but for credits, and a position = Σ its deals.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Protocol

from msgspec import structs

from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.core.matching import is_buy
from mt5_bridge.simulator.core.records import Change, Deal, Order, Position
from mt5_bridge.simulator.core.rules import LateOrder, Request

FIRST_TICKET = 50_000_001


class Money(Protocol):
    """Turns prices into account money, of which `digits` decimals are kept."""

    digits: int

    def profit(self, symbol: str, order_type: int, volume: float, price_open: float, price_close: float) -> Decimal:
        """Rounded to the account's decimals. `order_type` is the position's: 0 long, 1 short."""
        ...

    def margin_rate(self, symbol: str, order_type: int, price: float) -> float:
        """Account money per unit of the symbol's margin currency."""
        ...

    def commission(self, symbol: str, side: int, entry: int, volume: float, price: float) -> Decimal:
        """What a deal costs, not above 0. `side` is the position's, `entry` a DEAL_ENTRY_*."""
        ...


class Ledger:
    """The account's books. Every method notes in `change` what it did, for the store."""

    def __init__(self, mode: MarginMode, money: Money, *, balance: Decimal = Decimal(0)) -> None:
        self._hedging = mode is MarginMode.HEDGING
        self.balance = balance
        self.credit = Decimal(0)
        """Lent by the broker: part of the equity, not of the balance."""
        self.next_ticket = FIRST_TICKET
        self.positions: dict[int, Position] = {}
        self.by_symbol: dict[str, dict[int, Position]] = {}
        """The same positions by symbol; a symbol without any is absent."""
        self.touched: list[tuple[str, int]] = []
        """Symbol and ticket of positions that changed, for whoever keeps sums over them; that one clears it."""
        self.orders: dict[int, Order] = {}
        self.late: dict[int, LateOrder] = {}
        """Requests on their way to the server, by number."""
        self.change = Change()
        self._money = money

    def take_change(self) -> Change:
        """Hands over what happened since the last call."""
        change, self.change = self.change, Change()
        return change

    def ticket(self) -> int:
        """A number never given before: orders and deals share one sequence."""
        number = self.next_ticket
        self.next_ticket += 1
        return number

    def deposit(self, amount: Decimal, msc: int) -> Deal:
        """Books money paid in (or, negative, out)."""
        return self.transfer(amount, msc, c.DEAL_TYPE_BALANCE, "Deposit" if amount >= 0 else "Withdrawal")

    def transfer(self, amount: Decimal, msc: int, kind: int, comment: str) -> Deal:
        """Books money that no trade made; `kind` is a DEAL_TYPE_*, of which only a credit stays out of the balance."""
        return self._book(
            Deal(
                ticket=self.ticket(), order=0, time_msc=msc, type=kind, entry=c.DEAL_ENTRY_IN, magic=0,
                position_id=0, reason=c.DEAL_REASON_CLIENT, volume=0.0, price=0.0, profit=float(amount), symbol="",
                comment=comment,
            )
        )  # fmt: skip

    def due(self, now: int) -> LateOrder | None:
        """The late order whose turn it is at `now` (UTC, ms), the first sent of those due at once."""
        if not self.late:
            return None
        first = min(self.late.values(), key=lambda order: (order.due_msc, order.number))
        return first if first.due_msc <= now else None

    def take_late(self, order: LateOrder) -> Request:
        """A late order's turn has come: it is gone with the step that executes it."""
        del self.late[order.number]
        self.change.late.append(order.number)
        return order.request

    def place(self, order: Order) -> None:
        """A pending order starts to wait, or a waiting one changed."""
        self.orders[order.ticket] = order
        self.change.orders[order.ticket] = order

    def finish(self, order: Order, state: int, msc: int, price: float = 0.0) -> None:
        """An order ends and goes to history."""
        order.state, order.time_done_msc = state, msc
        if price:
            order.price_current = price
        if self.orders.pop(order.ticket, None) is not None:
            self.change.orders[order.ticket] = None
        self.change.history.append(order)

    def touch(self, position: Position, msc: int) -> None:
        """A position changed."""
        position.time_update_msc = msc
        self.adopt(position)
        self.change.positions[position.ticket] = position

    def adopt(self, position: Position) -> None:
        """Takes a position in without noting a change: what the store already holds."""
        _put(self.positions, position)
        _put(self.by_symbol.setdefault(position.symbol, {}), position)
        self.touched.append((position.symbol, position.ticket))

    def of_symbol(self, symbol: str) -> Position | None:
        """The one position of a symbol on a netting account; on a hedging one, the oldest."""
        return next(iter(self.by_symbol.get(symbol, {}).values()), None)

    @contextmanager
    def rehearsal(self, symbol: str, tickets: Iterable[int]) -> Iterator[None]:
        """What happens inside is undone at the end: it may change these positions and orders, and add new ones."""
        kept = (self.balance, self.credit, self.next_ticket, self.change, self.positions, self.by_symbol, self.orders)
        named = set(tickets)
        copies = {ticket: structs.replace(self.positions[ticket]) for ticket in named & self.positions.keys()}
        orders = {ticket: structs.replace(self.orders[ticket]) for ticket in named & self.orders.keys()}
        self.change = Change()
        self.positions = {**self.positions, **copies}
        self.by_symbol = dict(self.by_symbol)
        if symbol in self.by_symbol:
            self.by_symbol[symbol] = {**self.by_symbol[symbol], **copies}
        self.orders = {**self.orders, **orders}
        try:
            yield
        finally:
            self.touched.extend((symbol, ticket) for ticket in sorted({*copies, *self.change.positions}))
            self.balance, self.credit, self.next_ticket, self.change = kept[:4]
            self.positions, self.by_symbol, self.orders = kept[4:]

    def _drop(self, position: Position) -> None:
        del self.positions[position.ticket]
        self.touched.append((position.symbol, position.ticket))
        of_symbol = self.by_symbol[position.symbol]
        del of_symbol[position.ticket]
        if not of_symbol:
            del self.by_symbol[position.symbol]
        self.change.positions[position.ticket] = None

    def fill(self, order: Order, price: float, msc: int, volume: float | None = None) -> Deal:
        """Executes `volume` lots of an order (None: what is left) at `price`; the order ends when nothing is left.

        With a rest it is partly filled, and neither waits nor is done: the caller says which, by `place` or `finish`.
        """
        if volume is None:
            volume = order.volume_current
        if self._hedging:
            target = self.positions.get(order.position_id) if order.position_id else None
            if target is not None and is_buy(order.type) != (target.type == c.POSITION_TYPE_BUY):
                volume = min(volume, target.volume)  # a hedging position closes, and is never reversed
        else:
            target = self.of_symbol(order.symbol)
        if target is None:
            deal = self._open(order, price, msc, volume)
        elif is_buy(order.type) == (target.type == c.POSITION_TYPE_BUY):
            deal = self._add(target, order, price, msc, volume)
        elif volume <= target.volume:
            deal = self._reduce(target, order, price, msc, volume)
        else:
            deal = self._reverse(target, order, price, msc, volume)
        order.volume_current = round(order.volume_current - volume, 8)
        if order.volume_current > 0:
            order.state = c.ORDER_STATE_PARTIAL
        else:
            self.finish(order, c.ORDER_STATE_FILLED, msc, price)
        return deal

    def charge_swap(self, position: Position, amount: Decimal) -> None:
        """Adds a night's swap to a position: booked when it closes."""
        position.swap = float(Decimal(repr(position.swap)) + amount)
        self.adopt(position)
        self.change.positions[position.ticket] = position

    def reopen(self, position: Position, price_close: float, price_open: float, msc: int) -> None:
        """Closes a position and opens it again under the same ticket, as swaps by reopening do."""
        profit = self._money.profit(
            position.symbol, position.type, position.volume, position.price_open, price_close
        )  # fmt: skip
        for side, entry, price, amount in (
            (1 - position.type, c.DEAL_ENTRY_OUT, price_close, profit),
            (position.type, c.DEAL_ENTRY_IN, price_open, Decimal(0)),
        ):
            self._book(
                Deal(
                    ticket=self.ticket(), order=0, time_msc=msc, type=side, entry=entry, magic=position.magic,
                    position_id=position.identifier, reason=c.DEAL_REASON_ROLLOVER, volume=position.volume,
                    price=price, profit=float(amount), symbol=position.symbol, comment=position.comment,
                )
            )  # fmt: skip
        position.price_open = price_open
        position.margin_rate = self._money.margin_rate(position.symbol, position.type, price_open)
        self.touch(position, msc)

    def close_by(self, position: Position, other: Position, order: Order, msc: int) -> tuple[Deal, Deal]:
        """Closes two opposite positions by each other: the first deal carries the profit, the second none."""
        volume = min(position.volume, other.volume)
        profit = self._money.profit(position.symbol, position.type, volume, position.price_open, other.price_open)
        order.position_id, order.position_by_id = position.ticket, other.ticket
        deals = []
        for held, price, amount in ((position, other.price_open, profit), (other, position.price_open, Decimal(0))):
            swap = self._shrink(held, volume, msc)
            deals.append(self._deal(order, held, 1 - held.type, c.DEAL_ENTRY_OUT_BY, volume, price, msc, amount, swap))
        order.volume_current = 0.0
        self.finish(order, c.ORDER_STATE_FILLED, msc, other.price_open)
        return deals[0], deals[1]

    def _open(self, order: Order, price: float, msc: int, volume: float) -> Deal:
        side = c.POSITION_TYPE_BUY if is_buy(order.type) else c.POSITION_TYPE_SELL
        position = Position(
            ticket=order.ticket, symbol=order.symbol, type=side, volume=volume, price_open=price,
            sl=order.sl, tp=order.tp, time_msc=msc, time_update_msc=msc, magic=order.magic, identifier=order.ticket,
            reason=order.reason, comment=order.comment,
            margin_rate=self._money.margin_rate(order.symbol, side, price),
        )  # fmt: skip
        order.position_id = position.identifier
        self.touch(position, msc)
        return self._deal(order, position, side, c.DEAL_ENTRY_IN, volume, price, msc)

    def _add(self, position: Position, order: Order, price: float, msc: int, volume: float) -> Deal:
        total = round(position.volume + volume, 8)
        rate = self._money.margin_rate(order.symbol, position.type, price)
        share = volume / total
        position.price_open = round(position.price_open + (price - position.price_open) * share, 10)
        position.margin_rate += (rate - position.margin_rate) * share
        position.volume = total
        # The last order's levels count, also where it has none (MetaTrader 5 help, "Rules of Stop Loss and Take Profit
        # inheritance"). The hedging position's are its own from the first fill on.
        if not self._hedging:
            position.sl, position.tp = order.sl, order.tp
        order.position_id = position.identifier
        self.touch(position, msc)
        return self._deal(order, position, position.type, c.DEAL_ENTRY_IN, volume, price, msc)

    def _reduce(self, position: Position, order: Order, price: float, msc: int, volume: float) -> Deal:
        profit = self._money.profit(position.symbol, position.type, volume, position.price_open, price)
        order.position_id = position.identifier
        swap = self._shrink(position, volume, msc)
        return self._deal(order, position, 1 - position.type, c.DEAL_ENTRY_OUT, volume, price, msc, profit, swap)

    def _reverse(self, position: Position, order: Order, price: float, msc: int, volume: float) -> Deal:
        held = position.volume
        profit = self._money.profit(position.symbol, position.type, held, position.price_open, price)
        swap = Decimal(repr(position.swap))
        self._drop(position)
        # The ticket becomes that of the order which reversed it; the identifier stays (MQL5, POSITION_IDENTIFIER).
        position.ticket = order.ticket
        position.type = 1 - position.type
        position.volume = round(volume - held, 8)
        position.price_open, position.swap, position.sl, position.tp = price, 0.0, order.sl, order.tp
        position.margin_rate = self._money.margin_rate(position.symbol, position.type, price)
        order.position_id = position.identifier
        self.touch(position, msc)
        return self._deal(order, position, position.type, c.DEAL_ENTRY_INOUT, volume, price, msc, profit, swap)

    def _shrink(self, position: Position, volume: float, msc: int) -> Decimal:
        """Takes `volume` off a position; returns the swap that goes with it."""
        left = round(position.volume - volume, 8)
        if left <= 0:
            self._drop(position)
            return Decimal(repr(position.swap))
        digits = self._money.digits
        swap = round(position.swap * volume / position.volume, digits)
        position.swap = round(position.swap - swap, digits)
        position.volume = left
        self.touch(position, msc)
        return Decimal(repr(swap))

    def _deal(
        self, order: Order, position: Position, side: int, entry: int, volume: float, price: float, msc: int,
        profit: Decimal = Decimal(0), swap: Decimal = Decimal(0),
    ) -> Deal:  # fmt: skip
        commission = self._money.commission(order.symbol, position.type, entry, volume, price)
        return self._book(
            Deal(
                ticket=self.ticket(), order=order.ticket, time_msc=msc, type=side, entry=entry, magic=order.magic,
                position_id=position.identifier, reason=order.reason, volume=volume, price=price,
                profit=float(profit), swap=float(swap), symbol=order.symbol, comment=order.comment,
                commission=float(commission),
            )
        )  # fmt: skip

    def _book(self, deal: Deal) -> Deal:
        if deal.type == c.DEAL_TYPE_CREDIT:
            self.credit += Decimal(repr(deal.profit))
        else:
            for amount in (deal.profit, deal.swap, deal.commission, deal.fee):
                if amount:
                    self.balance += Decimal(repr(amount))
        self.change.deals.append(deal)
        return deal


def _put(held: dict[int, Position], position: Position) -> None:
    """Keeps positions in the order of their tickets, as a restart reads them; a pending fills after later orders."""
    late = held and position.ticket not in held and position.ticket < next(reversed(held))
    held[position.ticket] = position
    if late:
        ordered = sorted(held.items())
        held.clear()
        held.update(ordered)
