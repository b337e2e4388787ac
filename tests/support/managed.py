"""Positions with a managed stop, on a kit of flows and a terminal in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from support.eventually import eventually
from support.flow_kit import FlowKit

from mt5_bridge.core.model import OrderRequest, Side
from mt5_bridge.flows.binder import GONE_S
from mt5_bridge.flows.plans import PLANS_MEMO, Managed

STOP = 1.0950
BUY: dict[str, Any] = {"action": "BUY", "volume": 0.1, "stop_loss": STOP}  # at 1.1001
SELL: dict[str, Any] = {"action": "SELL", "volume": 0.1, "stop_loss": 1.1050}  # at 1.1000
TRAIL: dict[str, Any] = {"trailing_stop_points": 200}
EVEN: dict[str, Any] = {"break_even_points": 100}
FLOWS = ("trailing", "account-poll", "corrections")


@asynccontextmanager
async def kit_in(folder: Path, **options: Any) -> AsyncIterator[FlowKit]:
    """A kit whose managed stops are followed."""
    async with FlowKit.open(folder, **options) as kit:
        kit.run(*FLOWS)
        yield kit


def stop(kit: FlowKit, ticket: int | None = None) -> float:
    """Of the one position, or of that one."""
    held = kit.terminal.positions
    return (next(iter(held.values())) if ticket is None else held[ticket]).stop_loss


def moves(kit: FlowKit) -> list[OrderRequest]:
    """Of managed stops; what sets the stop of a fill is none."""
    sent = (request for request in kit.terminal.sent if request.nearer_only and request.keeps_target)
    return [request for request in sent if (request.type.side, request.stop_loss) != (Side.BUY, STOP)]


def rise(kit: FlowKit, bid: float) -> None:
    kit.terminal.tick("EURUSD", bid, round(bid + 0.0001, 5))


async def opened(kit: FlowKit, signal_id: str = "s1", **fields: Any) -> dict[str, Any]:
    """A signal that is filled and looked after."""
    await kit.send(**{**BUY, "signal_id": signal_id, **fields})
    result = await kit.result(signal_id)
    await kit.idle()
    return result


async def until_stop(kit: FlowKit, wanted: float, ticket: int | None = None) -> None:
    await eventually(lambda: stop(kit, ticket) == wanted, 120.0, f"stop at {wanted}")
    await kit.idle()


async def stays(kit: FlowKit, seconds: float = 5.0) -> None:
    """Nothing is sent for a while."""
    before = len(kit.terminal.sent)
    await asyncio.sleep(seconds)
    assert len(kit.terminal.sent) == before


async def plans(kit: FlowKit) -> list[Managed]:
    """As the journal has them."""
    memo = await kit.journal.memo(PLANS_MEMO)
    return [] if memo is None else msgspec.json.decode(memo, type=list[Managed])


async def until_ended(kit: FlowKit, seconds: float = 3 * GONE_S) -> None:
    async def none() -> bool:
        return not await plans(kit)

    await eventually(none, seconds, "no plan left")


def change(kit: FlowKit, ticket: int | None = None, **fields: Any) -> None:
    """What a person does in the terminal."""
    held = kit.terminal.positions
    ticket = ticket or next(iter(held))
    held[ticket] = msgspec.structs.replace(held[ticket], **fields)


@asynccontextmanager
async def net_kit(folder: Path) -> AsyncIterator[FlowKit]:
    async with FlowKit.open(folder) as kit:
        kit.terminal.netting()
        await kit.book.refresh()
        kit.run(*FLOWS)
        yield kit


async def until_bound(kit: FlowKit) -> None:
    async def bound() -> bool:
        return [bool(m.position) for m in await plans(kit)] == [True]

    await eventually(bound)
