"""Records of the books as rows of SQLite, which takes anything anywhere: what comes back is checked."""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from mt5_bridge.simulator.core.records import Deal, Order, Position
from mt5_bridge.simulator.core.rules import LateOrder, Request

Kept = TypeVar("Kept", Position, Order, Deal)

KINDS: dict[str, type[Position] | type[Order] | type[Deal]] = {
    "positions": Position, "orders": Order, "history": Order, "deals": Deal,
}  # fmt: skip
"""What the tables hold, a field in each column."""
_TYPES = {kind: tuple(field.type for field in msgspec.structs.fields(kind)) for kind in KINDS.values()}
_WORD = 1 << 64
_SIGNED = 1 << 63


def row(record: Position | Order | Deal) -> tuple[Any, ...]:
    """What is stored of a record."""
    values = msgspec.structs.astuple(record)
    if record.magic < _SIGNED and record.comment.isascii():
        return values
    return tuple(map(_storable, values))


def _storable(value: Any) -> Any:
    """A magic above 2^63 as its two's complement, since SQLite's integers are signed; a text that is none as bytes."""
    if isinstance(value, int) and value >= _SIGNED:
        return value - _WORD
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    return value


def record(kind: type[Kept], values: Sequence[Any]) -> Kept:
    """What was stored as `values`.

    Raises:
        ValueError: a value is not of its field's type.
    """
    if tuple(map(type, values)) == _TYPES[kind]:
        found = kind(*values)
        return found if found.magic >= 0 else msgspec.structs.replace(found, magic=found.magic + _WORD)
    fields = dict(zip(kind.__struct_fields__, values, strict=True))
    if isinstance(fields["magic"], int):
        fields["magic"] %= _WORD
    if isinstance(fields["comment"], bytes):
        fields["comment"] = fields["comment"].decode("utf-8", "surrogatepass")
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{kind.__name__.lower()} {values[0]}: {error}") from error


def pack(request: Request) -> str:
    """A request as the standard library's JSON, which keeps the NaN and the half surrogate pair that it may hold."""
    return json.dumps(msgspec.structs.asdict(request))


def late_order(number: int, due_msc: Any, request: Any) -> LateOrder:
    """An order on its way.

    Raises:
        ValueError: it is none.
    """
    try:
        fields = {"number": number, "due_msc": due_msc, "request": json.loads(str(request))}
        return msgspec.convert(fields, LateOrder)
    except (ValueError, msgspec.ValidationError) as error:
        raise ValueError(f"order {number} on its way: {error}") from error


def books(text: str) -> tuple[Decimal, Decimal, int, int]:
    """Balance, credit, next ticket, and up to when ticks are accounted for.

    Raises:
        ValueError: the text says something else.
    """
    try:
        balance, ticket, processed_msc, *credit = text.split()
        # Files of before there was credit do not name it.
        found = Decimal(balance), Decimal(credit[0] if credit else 0), int(ticket), int(processed_msc)
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"books {text!r}") from error
    if not (found[0].is_finite() and found[1].is_finite()):
        raise ValueError(f"books {text!r}")
    return found
