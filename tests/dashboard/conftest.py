"""A server that welcomes whoever subscribes, and answers what it is asked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_asyncio
from support.backend import Backend

WELCOME = {
    "bridge_id": "b-1", "account": "5", "symbols": ["X"], "scopes": ["read", "stop", "trade", "admin"],
    "halt": {"state": "active"}, "capabilities": [],
}  # fmt: skip


class Gateway(Backend):
    """Attributes:
    answers: the `data` of the answer by command; a function is called with the frame; what is absent gets none.
    """

    def __init__(self) -> None:
        super().__init__(token="t")
        self.answers: dict[str, Any] = {"get_status": {"success": True, "data": {"limits": [{"name": "n"}]}}}
        self._answered = 0

    async def answering(self) -> None:
        """Until cancelled."""
        while True:
            for frame in self.frames[self._answered :]:
                self._answered += 1
                if frame["type"] == "subscribe":
                    await self.send("welcome", WELCOME)
                answer: Any = self.answers.get(frame["type"])
                if isinstance(answer, Callable):  # type: ignore[arg-type]  # a plain function
                    answer = answer(frame)
                if answer is not None:
                    data = {"command": frame["type"], **answer}
                    await self.send("command_result", data, request_id=frame["request_id"])
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway() as server:
        task = asyncio.create_task(server.answering())
        yield server
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
