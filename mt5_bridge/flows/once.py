"""A command that acts is done once for its `request_id`, also when asked again at once, later, or after a restart."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from loguru import logger

from mt5_bridge.control import commands as table
from mt5_bridge.control.commands import Command
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.times import DAY
from mt5_bridge.flows.clock import Clock
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal

Answer = dict[str, Any]


class Once:
    """First answers, remembered for a day.

    Attributes:
        repeated: how often one was given again.
    """

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self.repeated = 0
        self._journal = journal
        self._clock = clock
        self._acting: dict[str, asyncio.Future[Answer]] = {}

    async def answer(self, command: Command, key: str, do: Callable[[], Awaitable[Answer]]) -> Answer:
        """The first answer of this `request_id`: of now, of the one being done, or the one remembered.

        Args:
            command: what is asked.
            key: its `request_id` as text.
            do: does it; called only when it was not done before.
        """
        if key in self._acting:
            self.repeated += 1
            return await asyncio.shield(self._acting[key])
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._acting[key] = answered
        try:
            answer = await self._first(command, key, do)
        except BaseException:
            answered.cancel()
            raise
        finally:
            self._acting.pop(key, None)
        answered.set_result(answer)
        return answer

    async def _first(self, command: Command, key: str, do: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            stored = await self._journal.answer(key)
        except JournalError as error:
            return table.failed(command.name, "journal_unavailable", str(error))
        if stored is not None and self._clock.now_ms() - stored.at_msc < DAY:
            self.repeated += 1
            first: Answer = table.decode_answer(stored.answer)
            return first
        answer = await do()
        await self.remember(key, command.name, answer)
        return answer

    async def remember(self, key: str, command: str, answer: Answer) -> None:
        """Journal an answer; when that fails it is told, and what it says has happened all the same."""
        remembered = changes.CommandAnswered(
            request_id=key, command=command, answer=table.encode_answer(answer), at_msc=self._clock.now_ms()
        )
        try:
            await self._journal.commit(remembered)
        except JournalError as error:
            logger.bind(event="answer_not_journalled", command=command).error(
                "ERROR the answer to {command} cannot be remembered: {error}", command=command, error=error
            )
