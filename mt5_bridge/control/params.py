"""The parameters of the commands, field by field as in the contract. Pure.

Tickets are positive whole numbers, volumes lots, prices in quote currency; a stop or target of 0 removes it. Unknown
fields are ignored. What a struct cannot say by its types, `__post_init__` says.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mt5_bridge.core.times import DAY, parse_time

Ticket = Annotated[int, Meta(gt=0, le=(1 << 63) - 1)]
Volume = Annotated[float, Meta(gt=0, le=1e9)]
Price = Annotated[float, Meta(ge=0, le=1e15)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(max_length=500)]
Person = Annotated[str, Meta(min_length=1, max_length=100)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Msc = Annotated[int, Meta(ge=0, le=1 << 53)]
Time = str | int | float
EARLIEST_MSC = DAY
LATEST_MSC = ((1 << 31) - 1) * 1000 - 2 * DAY
"""A day within what the terminal's package takes, seconds of 32 bits: 1970 to 2038, whatever the broker's offset."""
Cursor = Annotated[str, Meta(pattern=r"^[0-9]{1,16}:-?[0-9]{1,19}$")]
"""Behind which the next page begins: time in UTC ms, and what orders those of one ms."""
After = Annotated[str, Meta(pattern=r"^[0-9]{1,19}$")]
"""The same where one number orders them."""
Scope = Literal["all", "mine"]
Timeframe = Literal[
    "M1", "M2", "M3", "M4", "M5", "M6", "M10", "M12", "M15", "M20", "M30",
    "H1", "H2", "H3", "H4", "H6", "H8", "H12", "D1", "W1", "MN1",
]  # fmt: skip


class Params(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all parameters; alone: a command without any."""


class ClosePosition(Params, frozen=True, kw_only=True):
    """Close a position, or `volume` lots of it."""

    ticket: Ticket
    volume: Volume | None = None


class ModifyPosition(Params, frozen=True, kw_only=True):
    """Set stop or target of a position; None leaves it."""

    ticket: Ticket
    stop_loss: Price | None = None
    take_profit: Price | None = None

    def __post_init__(self) -> None:
        if self.stop_loss is None and self.take_profit is None:
            raise ValueError("needs stop_loss or take_profit")


class CancelOrder(Params, frozen=True, kw_only=True):
    """Delete a pending order."""

    ticket: Ticket


class ModifyOrder(Params, frozen=True, kw_only=True):
    """Change a pending order; None leaves a field."""

    ticket: Ticket
    price: Price | None = None
    stop_limit_price: Price | None = None
    stop_loss: Price | None = None
    take_profit: Price | None = None
    expiration: Time | None = None

    def __post_init__(self) -> None:
        given = (self.price, self.stop_limit_price, self.stop_loss, self.take_profit, self.expiration)
        if all(value is None for value in given):
            raise ValueError("needs price, stop_limit_price, stop_loss, take_profit or expiration")
        _check_times(expiration=self.expiration)


class CloseAll(Params, frozen=True, kw_only=True):
    """Close all positions, of one symbol or of all; scope None takes the setting."""

    symbol: Name | None = None
    scope: Scope | None = None


class EmergencyStop(Params, frozen=True, kw_only=True):
    """What a stop does beyond the latch; None takes the setting."""

    reason: Text | None = None
    by: Text | None = None
    close_positions: bool | None = None
    cancel_orders: bool | None = None
    scope: Scope | None = None


class ReduceOnly(Params, frozen=True, kw_only=True):
    """Allow only what reduces risk."""

    reason: Text | None = None
    by: Text | None = None


class ResumeTrading(Params, frozen=True, kw_only=True):
    """Lift a halt: a person and a reason are obligatory."""

    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    by: Person
    force: bool = False


class OfSymbol(Params, frozen=True, kw_only=True):
    """All, or those of one symbol; `cursor` is the `next` of the page before."""

    symbol: Name | None = None
    cursor: After | None = None


class GetSymbols(Params, frozen=True, kw_only=True):
    """All symbols of the terminal; `cursor` is the `next` of the page before."""

    cursor: Name | None = None


class GetRates(Params, frozen=True, kw_only=True):
    """Bars: the newest `count`, or `count` from a time on; `cursor` is the `next` of the page before."""

    symbol: Name
    timeframe: Timeframe
    count: Count = 100
    from_: Time | None = msgspec.field(name="from", default=None)
    cursor: After | None = None

    def __post_init__(self) -> None:
        _check_times(**{"from": self.from_})

    @property
    def from_msc(self) -> int | None:
        """UTC ms, None for the newest bars."""
        if self.cursor is not None:
            return askable(int(self.cursor) + 1)
        return None if self.from_ is None else askable(parse_time(self.from_))


class GetTicks(Params, frozen=True, kw_only=True):
    """Ticks between two times in UTC ms, or behind a cursor (the `next` of the answer before); else the newest."""

    symbol: Name
    from_msc: Msc | None = None
    to_msc: Msc | None = None
    count: Count = 100
    cursor: Cursor | None = None

    def __post_init__(self) -> None:
        if self.from_msc is not None and self.to_msc is not None and self.from_msc > self.to_msc:
            raise ValueError("from_msc is later than to_msc")


class GetHistory(Params, frozen=True, kw_only=True):
    """Deals or orders of the past, without times those of the last 24 h; `cursor` as in `GetTicks`."""

    kind: Literal["deals", "orders"] = "deals"
    symbol: Name | None = None
    from_: Time | None = msgspec.field(name="from", default=None)
    to: Time | None = None
    cursor: Cursor | None = None

    def __post_init__(self) -> None:
        _check_times(**{"from": self.from_, "to": self.to})
        if self.from_ is not None and self.to is not None and parse_time(self.from_) > parse_time(self.to):
            raise ValueError("from is later than to")

    def range_msc(self, now_msc: int) -> tuple[int, int]:
        """From and to in UTC ms."""
        to = now_msc if self.to is None else parse_time(self.to)
        return askable(to - DAY if self.from_ is None else parse_time(self.from_)), askable(to)


class GetSignal(Params, frozen=True, kw_only=True):
    """One signal's life, by its id or its key in the journal."""

    signal_id: Annotated[str, Meta(min_length=1, max_length=300)]


class GetSignals(Params, frozen=True, kw_only=True):
    """The newest signals, newest first; `cursor` is the `next` of the page before."""

    symbol: Name | None = None
    count: Count = 100
    cursor: After | None = None


class Symbols(Params, frozen=True, kw_only=True):
    """Names of symbols."""

    symbols: Annotated[list[Name], Meta(min_length=1, max_length=2000)]


def askable(msc: int) -> int:
    """The nearest time (UTC ms) that a terminal can be asked for."""
    return min(max(msc, EARLIEST_MSC), LATEST_MSC)


def _check_times(**times: Time | None) -> None:
    for name, value in times.items():
        if value is not None:
            try:
                parse_time(value)
            except (ValueError, OverflowError):
                raise ValueError(f"{name} is not a time: {str(value)[:40]!r}") from None
