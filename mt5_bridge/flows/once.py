"""A command that acts is done once for its `request_id`, also when asked again at once, later, or after a restart."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from loguru import logger

from mt5_bridge.control import commands as table
from mt5_bridge.control.commands import Command
from mt5_bridge.core.claim import Claim
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.times import DAY
from mt5_bridge.flows.clock import Clock
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal

Answer = dict[str, Any]
CLAIM_S = 1.0
"""How long what is asked waits for its key to be durable."""


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
        self._claims: dict[str, asyncio.Future[str]] = {}
        """Key → what it stands for, while that is not in the journal yet."""
        self._tasks: set[asyncio.Task[None]] = set()

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

    async def claim(self, key: str, fingerprint: str) -> Claim:
        """Whether a key stands for this request, for a day from its first use on.

        It is written before the request is done, so that the same key with another request is known after a crash,
        too. A disk that does not answer in time keeps nothing from being done: only who repeats himself could tell.

        Args:
            key: names the request.
            fingerprint: the same for the same request only.

        Raises:
            JournalError: the journal cannot be read.
        """
        if key in self._claims:
            return _claim(await asyncio.shield(self._claims[key]), fingerprint)
        stands: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._claims[key] = stands
        try:
            known = await self._claimed(f"claim:{key}")
        except BaseException:
            del self._claims[key]
            stands.cancel()
            raise
        stands.set_result(fingerprint if known is None else known)
        if known is not None:
            del self._claims[key]
            return _claim(known, fingerprint)
        written = asyncio.create_task(self._write_claim(key, fingerprint), name="claim")
        self._tasks.add(written)
        written.add_done_callback(self._tasks.discard)
        await asyncio.wait((written,), timeout=CLAIM_S)
        return Claim.FIRST

    async def _claimed(self, name: str) -> str | None:
        stored = await self._journal.answer(name)
        fresh = stored is not None and self._clock.now_ms() - stored.at_msc < DAY
        return stored.answer.decode() if stored is not None and fresh else None

    async def _write_claim(self, key: str, fingerprint: str) -> None:
        claimed = changes.CommandAnswered(
            request_id=f"claim:{key}", command="claim", answer=fingerprint.encode(), at_msc=self._clock.now_ms()
        )
        try:
            await self._journal.commit(claimed)
        except JournalError as error:
            logger.bind(event="claim_not_journalled").error("ERROR a key cannot be remembered: {error}", error=error)
        finally:
            del self._claims[key]

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


def _claim(known: str, fingerprint: str) -> Claim:
    return Claim.AGAIN if known == fingerprint else Claim.OTHER
