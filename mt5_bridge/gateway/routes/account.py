"""The account, its positions and pending orders, as the bridge sees them: no reader costs the terminal a call."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from mt5_bridge.gateway import examples, models
from mt5_bridge.gateway.auth import Reader
from mt5_bridge.gateway.bodies import SymbolName
from mt5_bridge.gateway.problems import responses
from mt5_bridge.gateway.routes.told import told
from mt5_bridge.gateway.state import Here

router = APIRouter(tags=["account"])

Symbol = Annotated[SymbolName | None, Query(description="Only those of this symbol.")]
After = Annotated[str | None, Query(pattern=r"^[0-9]{1,19}$", description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="The most on one page.")]


@router.get("/account", summary="The account", responses={200: examples.answer(models.AccountAnswer, examples.ACCOUNT)})
async def account(gateway: Here, who: Reader) -> Response:
    """Balance, equity, margin: as the bridge read them last, at most half a second ago while all is well."""
    return told(await gateway.reads.account())


@router.get(
    "/positions",
    summary="Open positions",
    responses={200: examples.answer(models.PositionsAnswer, examples.POSITIONS), **responses(404)},
)
async def positions(
    gateway: Here, who: Reader, symbol: Symbol = None, cursor: After = None, limit: Limit = 1000
) -> Response:
    """By ticket."""
    return told(await gateway.reads.positions(symbol, None if cursor is None else int(cursor), limit))


@router.get(
    "/orders",
    summary="Pending orders",
    responses={200: examples.answer(models.OrdersAnswer, examples.ORDERS), **responses(404)},
)
async def orders(
    gateway: Here, who: Reader, symbol: Symbol = None, cursor: After = None, limit: Limit = 1000
) -> Response:
    """By ticket."""
    return told(await gateway.reads.orders(symbol, None if cursor is None else int(cursor), limit))
