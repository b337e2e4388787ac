"""Symbols, ticks, bars and the past: asked of the terminal once for all who want the same at that time."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from mt5_bridge.gateway import examples, models
from mt5_bridge.gateway.auth import Reader
from mt5_bridge.gateway.bodies import SymbolName, Timeframe, WantedTicks
from mt5_bridge.gateway.problems import responses
from mt5_bridge.gateway.routes.told import told
from mt5_bridge.gateway.state import Here

router = APIRouter(tags=["market"])

Time = Annotated[
    str | None,
    Query(max_length=40, description="ISO 8601, UTC where it names no zone.", examples=["2026-01-05T10:00:00Z"]),
]
Since = Annotated[
    str | None,
    Query(
        alias="from",
        max_length=40,
        description="ISO 8601, UTC where it names no zone.",
        examples=["2026-01-05T10:00:00Z"],
    ),
]
Mark = Annotated[str | None, Query(pattern=r"^[0-9]{1,16}:-?[0-9]{1,19}$", description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="The most on one page.")]


@router.get("/symbols", summary="All symbols", responses={200: examples.answer(models.SymbolsAnswer, examples.SYMBOLS)})
async def symbols(
    gateway: Here,
    who: Reader,
    cursor: Annotated[str | None, Query(min_length=1, max_length=64, description="`next` of the page before.")] = None,
    limit: Limit = 500,
) -> Response:
    """With their trading rules, by name; read anew once a minute."""
    return told(await gateway.reads.symbols(cursor, limit))


@router.get(
    "/symbols/{name:path}",
    summary="One symbol",
    responses={200: examples.answer(models.SymbolAnswer, examples.SYMBOL), **responses(404)},
)
async def symbol(
    gateway: Here, who: Reader, name: Annotated[str, Path(min_length=1, max_length=64, examples=["EURUSD"])]
) -> Response:
    """By the broker's name, or without the suffix that the broker adds."""
    return told(await gateway.reads.symbol(name))


@router.get(
    "/rates", summary="Bars", responses={200: examples.answer(models.RatesAnswer, examples.RATES), **responses(404)}
)
async def rates(
    gateway: Here,
    who: Reader,
    symbol: Annotated[SymbolName, Query()],
    timeframe: Annotated[Timeframe, Query()],
    count: Annotated[int, Query(ge=1, le=10_000)] = 100,
    since: Since = None,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,16}$", description="`next` of the page before.")] = None,
) -> Response:
    """The newest `count`, or `count` from a time on; oldest first."""
    asked = {"symbol": symbol, "timeframe": timeframe, "count": count, "from": since, "cursor": cursor}
    return told(await gateway.reads.rates({name: value for name, value in asked.items() if value is not None}))


@router.post(
    "/ticks", summary="Ticks", responses={200: examples.answer(models.TicksAnswer, examples.TICKS), **responses(404)}
)
async def ticks(gateway: Here, who: Reader, wanted: WantedTicks) -> Response:
    """The newest `count`, or those of a time; oldest first."""
    return told(await gateway.reads.ticks(wanted.model_dump(exclude_none=True)))


@router.get(
    "/history/deals",
    summary="Deals of the past",
    responses={200: examples.answer(models.DealsAnswer, examples.DEALS), **responses(404)},
)
async def deals(
    gateway: Here,
    who: Reader,
    symbol: Annotated[SymbolName | None, Query()] = None,
    since: Since = None,
    to: Time = None,
    cursor: Mark = None,
    limit: Limit = 500,
) -> Response:
    """Without times, those of the last 24 hours; oldest first."""
    asked = {"kind": "deals", "symbol": symbol, "from": since, "to": to, "cursor": cursor}
    return told(await gateway.reads.history({k: v for k, v in asked.items() if v is not None}, limit))


@router.get(
    "/history/orders",
    summary="Orders of the past",
    responses={200: examples.answer(models.PastOrdersAnswer, examples.PAST_ORDERS), **responses(404)},
)
async def past_orders(
    gateway: Here,
    who: Reader,
    symbol: Annotated[SymbolName | None, Query()] = None,
    since: Since = None,
    to: Time = None,
    cursor: Mark = None,
    limit: Limit = 500,
) -> Response:
    """Without times, those of the last 24 hours; oldest first."""
    asked = {"kind": "orders", "symbol": symbol, "from": since, "to": to, "cursor": cursor}
    return told(await gateway.reads.history({k: v for k, v in asked.items() if v is not None}, limit))
