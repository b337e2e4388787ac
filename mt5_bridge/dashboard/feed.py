"""One stream for all pages of one token: read into a board, told to the pages ten times a second; passes orders on."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from loguru import logger

from mt5_bridge.client import BridgeStream, Frame, Link
from mt5_bridge.core.errors import ChannelClosedError
from mt5_bridge.dashboard.board import Board

PUSH_S = 0.1
STATUS_S = 2.0
ORDERS_S = 5.0
STOP_PATIENCE_S = 60.0
"""A stop that finds no connection is tried again for so long."""
QUIET_S = 1.0
"""A page hears something at least so often: silence means that this process is gone."""
COMMANDS = frozenset({
    "close_position", "modify_position", "cancel_order", "modify_order", "reduce_only", "resume_trading", "get_rates",
    "get_signal", "get_status",
})  # fmt: skip
"""What a page may ask for, beside the stop."""
SIGNED = frozenset({"reduce_only", "resume_trading"})
"""Commands that say who gave them."""
STOP = "emergency_stop"

Tell = Callable[[dict[str, Any]], None]


class Feed:
    """A token's stream.

    Args:
        url: of the gateway's WebSocket, or of a backend's `/dashboard`.
        token: what is brought to it.

    Attributes:
        board: what is shown.
        refused: the token does not let in (any more).
    """

    def __init__(self, url: str, token: str) -> None:
        self.board = Board()
        self._stream = BridgeStream(url, token, on_frame=self._on_frame, on_link=self._on_link)
        self._pages: set[Tell] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._orders_due = asyncio.Event()
        self._told_at = 0.0

    @property
    def refused(self) -> bool:
        """Whether the token does not let in."""
        return self._stream.link is Link.REFUSED

    def start(self) -> None:
        """Begin to read; needs a running loop."""
        loops = {"stream": self._stream.run, "push": self._push, "status": self._status, "orders": self._orders}
        self._tasks = [asyncio.create_task(run(), name=f"feed-{name}") for name, run in loops.items()]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A loop ends by a defect only: nobody may take what is shown then for the truth."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        logger.bind(event="feed_defect").opt(exception=error).error(
            "ERROR {name} ended: {e!r}", name=task.get_name(), e=error
        )
        self.board.linked(Link.LOST.value, f"a defect of the dashboard: {error!r}; start it again", _now_ms())
        self._tell()

    async def close(self) -> None:
        """End it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def attach(self, tell: Tell) -> None:
        """A page wants to be told; it gets the whole picture first."""
        self._tell()  # what is new goes to the others first, or this one would hear it twice
        tell(self.board.full(_now_ms()))
        self._pages.add(tell)

    def detach(self, tell: Tell) -> None:
        """A page is gone."""
        self._pages.discard(tell)

    async def ask(self, command: str, data: Mapping[str, Any], *, by: str) -> dict[str, Any]:
        """Do what a page asks; returns the data of the `command_result`, or the same shape saying what went wrong."""
        if command == STOP:
            return await self._stop(data, by)
        if command not in COMMANDS:
            return _failed(command, "unknown_command", f"the dashboard does not pass on {command[:64]!r}")
        signed = {**data, "by": by} if command in SIGNED else data
        try:
            answer = await self._stream.ask(command, signed, request_id=f"dash-{uuid.uuid4().hex}")
        except (ChannelClosedError, TimeoutError) as error:
            return _failed(command, "no_answer", f"{error or 'no answer'}; it may have been carried out all the same")
        if command in ("cancel_order", "modify_order"):
            self._orders_due.set()
        return answer

    async def _stop(self, data: Mapping[str, Any], by: str) -> dict[str, Any]:
        """Stop, and while there is no connection try again: the same request, so that it acts once."""
        logger.bind(event="dashboard_stop", by=by).warning("Emergency stop by {by}", by=by)
        self.board.stop_asked(by, _now_ms())
        request_id, give_up = f"dash-{uuid.uuid4().hex}", time.monotonic() + STOP_PATIENCE_S
        order = {"reason": "stopped on the dashboard", **data, "by": by}
        while True:
            try:
                answer = await self._stream.ask(STOP, order, request_id=request_id)
            except (ChannelClosedError, TimeoutError) as error:
                why = f"{error or 'no answer'}: not known to have reached the bridge"
                answer = _failed(STOP, "no_answer", why)
                if time.monotonic() < give_up and not self.refused:
                    waiting = f"{why}; trying again for {STOP_PATIENCE_S:g} s. Stop at the PC: mt5-bridge stop"
                    self.board.stop_answered(_failed(STOP, "no_answer", waiting), _now_ms())
                    await asyncio.sleep(PUSH_S)
                    continue
            self.board.stop_answered(answer, _now_ms())
            return answer

    # --- the loops

    def _on_frame(self, frame: Frame) -> None:
        self.board.take(frame.type, frame.data, frame.event_id, _now_ms())
        if frame.type in ("pending_changed", "halt_changed", "order_result"):
            self._orders_due.set()

    def _on_link(self, link: Link, detail: str) -> None:
        self.board.linked(link.value, detail, _now_ms())
        if link is Link.CONNECTED:
            self._tasks.append(asyncio.create_task(self._look_around(), name="feed-look"))
            self._tasks = [task for task in self._tasks if not task.done()]
        self._tell()  # at once, whatever the pace

    async def _look_around(self) -> None:
        """What no stream tells: the past, the symbols' digits."""
        self._orders_due.set()
        signals = await self._read("get_signals", {"count": 200})
        self.board.history(signals or [])
        cursor: dict[str, Any] = {}
        while True:
            answer = await self._answer("get_symbols", cursor)
            self.board.rules(row for row in answer.get("data") or [] if isinstance(row, dict))
            if answer.get("next") is None:
                return
            cursor = {"cursor": answer["next"]}

    async def _status(self) -> None:
        while True:
            status = await self._read("get_status", {})
            if isinstance(status, dict):
                self.board.status(status, _now_ms())
            await asyncio.sleep(STATUS_S)

    async def _orders(self) -> None:
        while True:
            self._orders_due.clear()
            orders = await self._read("get_orders", {})
            if isinstance(orders, list):
                self.board.orders([order for order in orders if isinstance(order, dict)])
            try:
                async with asyncio.timeout(ORDERS_S):
                    await self._orders_due.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(PUSH_S)  # what comes in a burst is asked for once

    async def _read(self, command: str, data: dict[str, Any]) -> Any:
        return (await self._answer(command, data)).get("data")

    async def _answer(self, command: str, data: dict[str, Any]) -> dict[str, Any]:
        """An answer; empty while there is none to be had."""
        try:
            answer = await self._stream.ask(command, data)
        except (ChannelClosedError, TimeoutError):
            return {}
        return answer if answer.get("success") else {}

    async def _push(self) -> None:
        while True:
            await asyncio.sleep(PUSH_S)
            self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        patch = self.board.patch(_now_ms())
        if len(patch) == 1 and now - self._told_at < QUIET_S:
            return
        self._told_at = now
        for tell in tuple(self._pages):
            tell(patch)


def _failed(command: str, code: str, message: str) -> dict[str, Any]:
    return {"command": command, "success": False, "error": {"code": code, "message": message}}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
