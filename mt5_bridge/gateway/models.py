"""What the REST answers look like, for the OpenAPI: the wire's own structs, and what is put around them.

The routes send bytes that were encoded once; these models are never filled in a request, they describe. Tests hold
running answers against them.
"""

import types
import typing
from typing import Any, Literal

import msgspec
from pydantic import BaseModel, Field, create_model

from mt5_bridge.core.answers import Bar, Latch, PastDeal, PendingOrder, Tick
from mt5_bridge.core.messages import AccountMessage, OrderResult, PositionMessage
from mt5_bridge.core.model import SymbolInfo

_made: dict[type[msgspec.Struct], type[BaseModel]] = {}


def model_of(struct: type[msgspec.Struct]) -> type[BaseModel]:
    """The model of a struct of the wire: the same fields, all of them always there."""
    if struct not in _made:
        hints = typing.get_type_hints(struct)
        fields: dict[str, Any] = {name: (_typed(hints[name]), ...) for name in struct.__struct_fields__}
        _made[struct] = create_model(struct.__name__, __doc__=struct.__doc__, **fields)
    return _made[struct]


def _typed(hint: Any) -> Any:
    """A type with the structs in it replaced by their models."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return model_of(hint)
    inner = tuple(_typed(part) for part in typing.get_args(hint))
    origin = typing.get_origin(hint)
    if origin is list:
        return list[inner[0]]  # type: ignore[valid-type]  # made while running
    if origin in (typing.Union, types.UnionType):
        return typing.Union[inner]  # noqa: UP007  made of what is found while running
    return hint


class Answer(BaseModel):
    """What every answer has."""

    success: Literal[True]


class _AsOf(Answer):
    as_of: str | None = Field(description="When the terminal was last read, UTC.")
    stale: bool = Field(description="The terminal cannot be read at the moment: this is what it showed last.")


class _Page(BaseModel):
    count: int = Field(description="How many are on this page.")
    next: str | None = Field(description="`cursor` of the next page; null: there is none.")


def _many(struct: type[msgspec.Struct]) -> Any:
    return list[model_of(struct)]  # type: ignore[misc]  # made while running


def _page(name: str, doc: str, **what: type[msgspec.Struct]) -> type[BaseModel]:
    fields: dict[str, Any] = {field: (_many(struct), ...) for field, struct in what.items()}
    return create_model(name, __doc__=doc, __base__=(Answer, _Page), **fields)


AccountAnswer = create_model("AccountAnswer", __base__=_AsOf, account=(model_of(AccountMessage), ...))
PositionsAnswer = create_model("PositionsAnswer", __base__=(_AsOf, _Page), positions=(_many(PositionMessage), ...))
SymbolsAnswer = create_model("SymbolsAnswer", __base__=(Answer, _Page), symbols=(_many(SymbolInfo), ...))
SymbolAnswer = create_model("SymbolAnswer", __base__=Answer, symbol=(model_of(SymbolInfo), ...))


OrdersAnswer = create_model("OrdersAnswer", __base__=(_AsOf, _Page), orders=(_many(PendingOrder), ...))
RatesAnswer = _page("RatesAnswer", "Bars, oldest first.", rates=Bar)
DealsAnswer = _page("DealsAnswer", "Deals, oldest first.", deals=PastDeal)
PastOrdersAnswer = _page("PastOrdersAnswer", "Orders of the past, oldest first.", orders=PendingOrder)
TicksAnswer = _page("TicksAnswer", "Ticks, oldest first.", ticks=Tick)
HaltAnswer = create_model("HaltAnswer", __doc__="The halt as it is now.", __base__=Answer, halt=(model_of(Latch), ...))


class SessionAnswer(Answer):
    """How the session with the terminal stands."""

    connected: bool
    account: int | None
    server: str | None
    detail: str = Field(description="What was done, in words.")


ResultAnswer = create_model(
    "ResultAnswer", __doc__="It is done.", __base__=Answer, result=(model_of(OrderResult), ...)
)  # fmt: skip
UnknownAnswer = create_model(
    "UnknownAnswer",
    __doc__="It may have been done: the bridge looks it up. The final `order_result` follows as an event.",
    success=(Literal[False], ...),
    result=(model_of(OrderResult), ...),
)
