"""A key stands for one request: at once, later, after a restart; whatever the disk does."""

import asyncio
from pathlib import Path

import pytest
from support.eventually import eventually
from support.flow_kit import FlowKit
from support.simulated import leap, simulated

from mt5_bridge.core.claim import Claim
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.times import DAY
from mt5_bridge.flows.once import Once

FIRST, AGAIN, OTHER = Claim.FIRST, Claim.AGAIN, Claim.OTHER


@simulated
async def test_a_key_stands_for_what_it_was_used_for_first(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        once = kit.answers.once
        assert [await once.claim("k", "one"), await once.claim("k", "one")] == [FIRST, AGAIN]
        assert await once.claim("k", "two") is OTHER
        assert await once.claim("other", "two") is FIRST
        next_life = Once(kit.journal, kit.clock)
        assert [await next_life.claim("k", "one"), await next_life.claim("k", "two")] == [AGAIN, OTHER]


@simulated
async def test_of_those_at_once_one_is_the_first(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        claims = [kit.answers.once.claim("k", text) for text in ("one", "one", "two", "one")]
        assert await asyncio.gather(*claims) == [FIRST, AGAIN, OTHER, AGAIN]


@simulated
async def test_a_key_is_free_again_after_a_day(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        once = kit.answers.once
        assert await once.claim("k", "one") is FIRST
        leap(DAY / 1000)
        assert await once.claim("k", "two") is FIRST
        assert await once.claim("k", "one") is OTHER


@simulated
async def test_a_disk_that_writes_nothing_keeps_nothing_from_being_done(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.break_down()
        assert await kit.answers.once.claim("k", "one") is FIRST
        kit.journal.mend()


@simulated
async def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        gate = asyncio.Event()

        async def hang(name: str) -> None:
            if name.startswith("commit "):
                await gate.wait()

        kit.journal.step = hang
        assert await kit.answers.once.claim("k", "one") is FIRST
        assert await kit.answers.once.claim("k", "two") is OTHER, "known all the same, in this life"
        gate.set()
        kit.journal.step = None
        await eventually(lambda: not kit.answers.once._tasks, 5.0, "written at last")
        assert await Once(kit.journal, kit.clock).claim("k", "one") is AGAIN


@simulated
async def test_what_cannot_be_read_is_not_guessed(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def fail(name: str) -> None:
            raise JournalError("the disk is gone")

        kit.journal.step = fail
        with pytest.raises(JournalError):
            await kit.answers.once.claim("k", "one")
        kit.journal.step = None
        assert await kit.answers.once.claim("k", "two") is FIRST
