"""The books: balance, positions, orders, deals. Pure bookkeeping: prices, times and money conversion come in.

At any time balance = Σ deals (profit + swap + commission + fee), and a position = Σ its deals.
"""

from decimal import Decimal
from typing import Protocol

from mt5_bridge.core.model import MarginMode
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.matching import is_buy
from mt5_bridge.simulator.records import Change, Deal, Order, Position

FIRST_TICKET = 50_000_001


class Money(Protocol):
    """Turns prices into account money."""

    def profit(self, symbol: str, order_type: int, volume: float, price_open: float, price_close: float) -> Decimal:
        """Rounded to the account's decimals. `order_type` is the position's: 0 long, 1 short."""
        ...

    def margin_rate(self, symbol: str, order_type: int, price: float) -> float:
        """Account money per unit of the symbol's margin currency."""
        ...


class Ledger:
    """The account's books. Every method notes in `change` what it did, for the store."""

    def __init__(self, mode: MarginMode, money: Money, *, balance: Decimal = Decimal(0)) -> None:
        self.mode = mode
        self.balance = balance
        self.next_ticket = FIRST_TICKET
        self.positions: dict[int, Position] = {}
        self.by_symbol: dict[str, dict[int, Position]] = {}
        """The same positions by symbol; a symbol without any is absent."""
        self.touched: list[tuple[str, int]] = []
        """Symbol and ticket of positions that changed, for whoever keeps sums over them; that one clears it."""
        self.orders: dict[int, Order] = {}
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
        return self._book(
            Deal(
                ticket=self.ticket(), order=0, time_msc=msc, type=c.DEAL_TYPE_BALANCE, entry=c.DEAL_ENTRY_IN, magic=0,
                position_id=0, reason=c.DEAL_REASON_CLIENT, volume=0.0, price=0.0, profit=float(amount), symbol="",
                comment="Deposit" if amount >= 0 else "Withdrawal",
            )
        )  # fmt: skip

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
        self.positions[position.ticket] = position
        self.by_symbol.setdefault(position.symbol, {})[position.ticket] = position
        self.touched.append((position.symbol, position.ticket))

    def of_symbol(self, symbol: str) -> Position | None:
        """The one position of a symbol on a netting account; on a hedging one, the oldest."""
        return next(iter(self.by_symbol.get(symbol, {}).values()), None)

    def _drop(self, position: Position) -> None:
        del self.positions[position.ticket]
        self.touched.append((position.symbol, position.ticket))
        of_symbol = self.by_symbol[position.symbol]
        del of_symbol[position.ticket]
        if not of_symbol:
            del self.by_symbol[position.symbol]
        self.change.positions[position.ticket] = None

    def fill(self, order: Order, price: float, msc: int) -> Deal:
        """Executes what is left of an order at `price`, and ends it."""
        order.state = c.ORDER_STATE_FILLED
        if self.mode is MarginMode.HEDGING:
            target = self.positions.get(order.position_id) if order.position_id else None
        else:
            target = self.of_symbol(order.symbol)
        if target is None:
            deal = self._open(order, price, msc)
        elif is_buy(order.type) == (target.type == c.POSITION_TYPE_BUY):
            deal = self._add(target, order, price, msc)
        elif order.volume_current <= target.volume:
            deal = self._reduce(target, order, price, msc)
        else:
            deal = self._reverse(target, order, price, msc)
        order.volume_current = 0.0
        self.finish(order, c.ORDER_STATE_FILLED, msc, price)
        return deal

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

    def _open(self, order: Order, price: float, msc: int) -> Deal:
        side = c.POSITION_TYPE_BUY if is_buy(order.type) else c.POSITION_TYPE_SELL
        position = Position(
            ticket=order.ticket, symbol=order.symbol, type=side, volume=order.volume_current, price_open=price,
            sl=order.sl, tp=order.tp, time_msc=msc, time_update_msc=msc, magic=order.magic, identifier=order.ticket,
            reason=order.reason, comment=order.comment,
            margin_rate=self._money.margin_rate(order.symbol, side, price),
        )  # fmt: skip
        order.position_id = position.identifier
        self.touch(position, msc)
        return self._deal(order, position, side, c.DEAL_ENTRY_IN, order.volume_current, price, msc)

    def _add(self, position: Position, order: Order, price: float, msc: int) -> Deal:
        volume = round(position.volume + order.volume_current, 8)
        rate = self._money.margin_rate(order.symbol, position.type, price)
        share = order.volume_current / volume
        position.price_open = round(position.price_open + (price - position.price_open) * share, 10)
        position.margin_rate += (rate - position.margin_rate) * share
        position.volume = volume
        self._take_stops(position, order)
        order.position_id = position.identifier
        self.touch(position, msc)
        return self._deal(order, position, position.type, c.DEAL_ENTRY_IN, order.volume_current, price, msc)

    def _reduce(self, position: Position, order: Order, price: float, msc: int) -> Deal:
        volume = order.volume_current
        profit = self._money.profit(position.symbol, position.type, volume, position.price_open, price)
        order.position_id = position.identifier
        swap = self._shrink(position, volume, msc)
        return self._deal(order, position, 1 - position.type, c.DEAL_ENTRY_OUT, volume, price, msc, profit, swap)

    def _reverse(self, position: Position, order: Order, price: float, msc: int) -> Deal:
        held = position.volume
        profit = self._money.profit(position.symbol, position.type, held, position.price_open, price)
        swap = Decimal(repr(position.swap))
        self._drop(position)
        # The ticket becomes that of the order which reversed it; the identifier stays (MQL5, POSITION_IDENTIFIER).
        position.ticket = order.ticket
        position.type = 1 - position.type
        position.volume = round(order.volume_current - held, 8)
        position.price_open, position.swap, position.sl, position.tp = price, 0.0, order.sl, order.tp
        position.margin_rate = self._money.margin_rate(position.symbol, position.type, price)
        order.position_id = position.identifier
        self.touch(position, msc)
        volume = order.volume_current
        return self._deal(order, position, position.type, c.DEAL_ENTRY_INOUT, volume, price, msc, profit, swap)

    def _shrink(self, position: Position, volume: float, msc: int) -> Decimal:
        """Takes `volume` off a position; returns the swap that goes with it."""
        left = round(position.volume - volume, 8)
        if left <= 0:
            self._drop(position)
            return Decimal(repr(position.swap))
        swap = round(position.swap * volume / position.volume, 2)
        position.swap = round(position.swap - swap, 2)
        position.volume = left
        self.touch(position, msc)
        return Decimal(repr(swap))

    @staticmethod
    def _take_stops(position: Position, order: Order) -> None:
        position.sl, position.tp = order.sl or position.sl, order.tp or position.tp

    def _deal(
        self, order: Order, position: Position, side: int, entry: int, volume: float, price: float, msc: int,
        profit: Decimal = Decimal(0), swap: Decimal = Decimal(0),
    ) -> Deal:  # fmt: skip
        return self._book(
            Deal(
                ticket=self.ticket(), order=order.ticket, time_msc=msc, type=side, entry=entry, magic=order.magic,
                position_id=position.identifier, reason=order.reason, volume=volume, price=price,
                profit=float(profit), swap=float(swap), symbol=order.symbol, comment=order.comment,
            )
        )  # fmt: skip

    def _book(self, deal: Deal) -> Deal:
        self.balance += Decimal(repr(deal.profit)) + Decimal(repr(deal.swap)) + Decimal(repr(deal.commission))
        self.change.deals.append(deal)
        return deal
