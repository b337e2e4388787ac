"""What the paper server keeps. Times are the server's wall clock in ms, as the terminal shows them; expiration in s."""

import msgspec


class Position(msgspec.Struct, gc=False):
    """An open position. `margin_rate` converts its margin to account money, fixed when it was opened."""

    ticket: int
    symbol: str
    type: int
    volume: float
    price_open: float
    sl: float
    tp: float
    time_msc: int
    time_update_msc: int
    magic: int
    identifier: int
    reason: int
    comment: str
    margin_rate: float
    swap: float = 0.0


class Order(msgspec.Struct, gc=False):
    """An order, waiting or done."""

    ticket: int
    symbol: str
    type: int
    type_time: int
    type_filling: int
    state: int
    volume_initial: float
    volume_current: float
    price_open: float
    price_stoplimit: float
    sl: float
    tp: float
    time_setup_msc: int
    magic: int
    reason: int
    comment: str
    price_current: float = 0.0
    time_done_msc: int = 0
    time_expiration: int = 0
    position_id: int = 0
    position_by_id: int = 0


class Deal(msgspec.Struct, gc=False, frozen=True):
    """An execution or a balance operation. Amounts are account money, already rounded."""

    ticket: int
    order: int
    time_msc: int
    type: int
    entry: int
    magic: int
    position_id: int
    reason: int
    volume: float
    price: float
    profit: float
    symbol: str
    comment: str
    commission: float = 0.0
    swap: float = 0.0
    fee: float = 0.0


class Change(msgspec.Struct):
    """What one step did to the books: written as a whole or not at all."""

    positions: dict[int, Position | None] = {}
    """By ticket; None where it is gone."""
    orders: dict[int, Order | None] = {}
    history: list[Order] = []
    deals: list[Deal] = []
    late: list[int] = []
    """Numbers of late orders whose turn it was."""

    def __bool__(self) -> bool:
        return bool(self.positions or self.orders or self.history or self.deals or self.late)
