"""Orders, signals, positions and pending orders. The guards are those of every signal.

Opening goes the way of signals: while halted it is denied. Closing, cancelling and moving stops are a person's
commands: they work while trading is halted, as far as they do not raise risk.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response

from mt5_bridge.gateway import examples, models
from mt5_bridge.gateway.auth import Principal, Trader
from mt5_bridge.gateway.bodies import ChangedOrder, ChangedPosition, Lots, NewOrder, NewSignal
from mt5_bridge.gateway.idempotency import Key, asked
from mt5_bridge.gateway.problems import Problem, responses
from mt5_bridge.gateway.routes.told import answer_told, result_told
from mt5_bridge.gateway.state import Gateway, Here

router = APIRouter(tags=["trading"])

OUTCOMES: dict[int | str, dict[str, Any]] = {
    200: examples.answer(models.ResultAnswer, examples.RESULT),
    202: examples.answer(
        models.UnknownAnswer, examples.UNKNOWN, "It may have been done: never send it again by yourself."
    ),
    **responses(404, 409),
}
Ticket = Annotated[int, Path(gt=0, le=(1 << 63) - 1, examples=[1234567])]


@router.post("/order", summary="Place an order", responses=OUTCOMES)
async def order(request: Request, gateway: Here, who: Trader, wanted: NewOrder, key: Key = None) -> Response:
    """At the market, or pending. Answered when it is filled, placed or refused."""
    return await _signal(request, gateway, who, wanted.signal(), key)


@router.post("/signal", summary="Send a trading signal", responses=OUTCOMES)
async def signal(
    request: Request,
    gateway: Here,
    who: Trader,
    wanted: NewSignal,
    key: Key = None,
    x_signature: Annotated[
        str | None,
        Header(max_length=200, description="Hex HMAC-SHA256 of the body's exact bytes, where SIGNAL_HMAC_KEY is set."),
    ] = None,
) -> Response:
    """As on the topic and over the WebSocket; sent again with its `signal_id`, it gets its first result again."""
    raw = await request.body() if x_signature is not None else None
    data = wanted.model_dump(exclude_unset=True)
    return await _signal(request, gateway, who, data, key, raw=raw, signature=x_signature)


async def _signal(
    request: Request, gateway: Gateway, who: Principal, data: Mapping[str, Any], key: str | None, **signed: Any
) -> Response:
    once = await asked(gateway, request, who, key, data)
    try:
        result = await gateway.port.signal(data, by=who.subject, request_id=once.request_id, **signed)
    finally:
        gateway.reads.written()
    try:
        return once.mark(result_told(request, {**result, "request_id": key}))
    except Problem as problem:
        raise once.refused(problem) from None


@router.patch("/positions/{ticket}", summary="Change a position's stop or target", responses=OUTCOMES)
async def change_position(
    request: Request, gateway: Here, who: Trader, ticket: Ticket, wanted: ChangedPosition, key: Key = None
) -> Response:
    """What is left out stays; 0 removes it."""
    data = {"ticket": ticket, "stop_loss": wanted.sl, "take_profit": wanted.tp}
    return await _command(request, gateway, who, "modify_position", data, key)


@router.delete("/positions/{ticket}", summary="Close a position", responses=OUTCOMES)
async def close_position(
    request: Request,
    gateway: Here,
    who: Trader,
    ticket: Ticket,
    volume: Annotated[Lots | None, Query(description="Lots of it; absent: all.")] = None,
    key: Key = None,
) -> Response:
    """Works while trading is halted, too."""
    return await _command(request, gateway, who, "close_position", {"ticket": ticket, "volume": volume}, key)


@router.patch("/orders/{ticket}", summary="Change a pending order", responses=OUTCOMES)
async def change_order(
    request: Request, gateway: Here, who: Trader, ticket: Ticket, wanted: ChangedOrder, key: Key = None
) -> Response:
    """What is left out stays; a stop or target of 0 is removed."""
    data = {
        "ticket": ticket,
        "price": wanted.price,
        "stop_limit_price": wanted.stop_limit_price,
        "stop_loss": wanted.sl,
        "take_profit": wanted.tp,
        "expiration": wanted.expiration,
    }
    return await _command(request, gateway, who, "modify_order", data, key)


@router.delete("/orders/{ticket}", summary="Cancel a pending order", responses=OUTCOMES)
async def cancel_order(request: Request, gateway: Here, who: Trader, ticket: Ticket, key: Key = None) -> Response:
    """Works while trading is halted, too."""
    return await _command(request, gateway, who, "cancel_order", {"ticket": ticket}, key)


async def _command(
    request: Request, gateway: Gateway, who: Principal, name: str, data: Mapping[str, Any], key: str | None
) -> Response:
    once = await asked(gateway, request, who, key, data)
    given = {field: value for field, value in data.items() if value is not None}
    try:
        answer = await gateway.port.command(name, given, by=who.subject, request_id=once.request_id)
    finally:
        gateway.reads.written()
    try:
        return once.mark(answer_told(request, answer))
    except Problem as problem:
        raise once.refused(problem) from None
