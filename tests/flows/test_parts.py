import asyncio
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.fake_terminal import FakeTerminal
from support.flow_kit import FlowKit
from support.properties import heavy
from support.simulated import leap, run_simulated, simulated

from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import Action
from mt5_bridge.flows import parts
from mt5_bridge.flows.parts import PASSED_S
from mt5_bridge.flows.sorting import CHUNK
from mt5_bridge.journal.changes import OffsetMoved

BUY: dict[str, Any] = {"volume": 0.1, "stop_loss": 1.09}


@pytest.fixture
def by_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record of a flood is a part of its own."""
    monkeypatch.setattr(parts, "COMMIT", 1)


@simulated
async def test_what_is_none_of_ours_costs_no_sync_of_its_own_and_holds_no_offset_back(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:

        async def foreign(count: int) -> None:
            for _ in range(count):
                await kit.take([kit.record(kit.value(account=999, **BUY))])

        async def offset() -> int:
            return (await kit.journal.offsets("trading_signals")).get(0, 0)

        await foreign(1)
        assert await offset() == 1, "the first is where to go on"
        before = kit.journal.stats.calls
        await foreign(50)
        assert kit.journal.stats.calls == before
        await kit.take([kit.record(kit.value(signal_id="ours", **BUY))])
        assert await offset() == 52, "with one of ours, and never before it"
        await foreign(1)
        assert await offset() == 52
        leap(2)
        await foreign(1)
        assert await offset() == 54
        # A topic made anew begins again, whatever was passed over lately.
        await kit.intake.position_lost("trading_signals", 0, 7, "topic_made_anew")
        await kit.take([kit.record(kit.value(account=999, **BUY), offset=7)])
        assert await offset() == 8


async def slow_disk(name: str) -> None:
    """A step of the journal: each part of a flood takes a second."""
    if name.startswith("commit ") and "OffsetMoved" in name:
        await asyncio.sleep(1.0)


async def test_a_flood_of_stale_signals_is_over_fast_and_in_order(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        old = kit.clock.now_ms() - 60_000
        batch = [kit.record(kit.value(signal_id=f"s{n}", **BUY), timestamp_ms=old) for n in range(3000)]
        longest, last = 0.0, time.thread_time()  # of the loop, however busy the machine is

        async def watch() -> None:
            nonlocal longest, last
            while True:
                await asyncio.sleep(0.005)
                now = time.thread_time()
                longest, last = max(longest, now - last), now

        watching = asyncio.create_task(watch())
        began = time.process_time()
        groups = kit.journal.stats.calls
        await kit.take(batch)
        took = time.process_time() - began
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        assert kit.intake.stats.early == 3000
        assert kit.journal.stats.calls - groups <= 3000 / CHUNK + 5
        assert took < 20, f"{3000 / took:.0f} a second"
        assert longest < 1.0, "the loop breathes in between"
        assert not kit.terminal.sent
        assert await kit.journal.offsets("trading_signals") == {0: 3000}


@pytest.mark.usefixtures("by_ones")
@simulated
async def test_of_a_topic_made_anew_no_part_overtakes_one_that_the_disk_refused(tmp_path: Path) -> None:
    """How far the topic of that name was read before is a larger offset, and of other records."""
    async with FlowKit.open(tmp_path) as kit:
        await kit.journal.commit(OffsetMoved(topic="trading_signals", partition=0, next_offset=1000))
        await kit.intake.position_lost("trading_signals", 0, 0, "topic_made_anew")
        reached, refused = list[int](), list[str]()

        async def step(name: str) -> None:
            if name.startswith("commit ") and "OffsetMoved" in name and not refused:
                refused.append(name)
                raise JournalError("disk full")
            if name.startswith("committed "):
                reached.append((await kit.journal.offsets("trading_signals"))[0])

        kit.journal.step = step
        await kit.take([kit.record(kit.value(signal_id=f"s{n}", account=1001, **BUY)) for n in range(3)])
        assert [at for at in dict.fromkeys(reached) if at != 1000] == [1, 2, 3]


@pytest.mark.usefixtures("by_ones")
@simulated
async def test_reading_begins_elsewhere_only_behind_what_is_on_its_way(tmp_path: Path) -> None:
    """Entered behind the news, the old topic's offsets would be taken for the new one's."""
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.step = slow_disk
        old = [kit.record(kit.value(signal_id=f"s{n}", account=1001, **BUY), offset=1000 + n) for n in range(4)]
        entered = list[Mapping[tuple[str, int], int]]()
        async with asyncio.TaskGroup() as group:
            await kit.intake.take(old, group, entered.append)
            assert [behind["trading_signals", 0] for behind in entered] == [1001, 1002]
            assert await kit.journal.offsets("trading_signals") == {0: 1002}, "the last two are on their way"
            await kit.intake.position_lost("trading_signals", 0, 0, "topic_made_anew")
            assert await kit.journal.offsets("trading_signals") == {0: 1004}
            await kit.intake.take(
                [kit.record(kit.value(signal_id="new", account=1001, **BUY), offset=0)], group, entered.append
            )
        assert await kit.journal.offsets("trading_signals") == {0: 1}
        assert len([await kit.result(f"s{n}") for n in range(4)]) == 4


@simulated
async def test_a_backlog_that_the_inbox_has_already_is_passed_over(tmp_path: Path) -> None:
    """Of what is too old to be sent it is not asked about first: the journal tells."""
    async with FlowKit.open(tmp_path) as kit:
        old = kit.clock.now_ms() - 60_000
        values = [kit.value(signal_id=f"s{n}", **BUY) for n in range(3)]
        asked = list[str]()

        async def step(name: str) -> None:
            asked.extend([name] if name.startswith("read") and "lambda" in name else [])

        kit.journal.step = step
        await kit.take([kit.record(value, timestamp_ms=old) for value in values[:2]])
        assert not asked
        await kit.take([kit.record(value, timestamp_ms=old) for value in values])
        assert len(asked) == 1
        assert kit.intake.stats.duplicates == 2
        await kit.idle()
        assert [r["signal_id"] for r in await kit.results()] == ["s0", "s1", "s2"]


@pytest.mark.usefixtures("by_ones")
@simulated
async def test_a_person_need_not_wait_until_the_disk_has_all_of_a_flood(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.step = slow_disk
        old = kit.clock.now_ms() - 60_000
        batch = [kit.record(kit.value(signal_id=f"s{n}", **BUY), timestamp_ms=old) for n in range(4)]
        flood = asyncio.create_task(kit.take(batch))
        await asyncio.sleep(0.5)
        began = kit.clock.monotonic()
        await kit.intake.command(TradingSignal(symbol="EURUSD", action=Action.CLOSE, position=1), None)
        assert kit.clock.monotonic() - began < 0.5
        await flood
        assert await kit.journal.offsets("trading_signals") == {0: 4}


@settings(max_examples=heavy(40))
@given(
    names=st.lists(st.integers(0, 20), min_size=3, max_size=24),
    foreign=st.sets(st.integers(0, 23)),
    size=st.integers(1, 4),
    fails=st.sets(st.integers(0, 11), max_size=6),
    cuts=st.sets(st.integers(1, 23), max_size=4),
    partitions=st.integers(1, 3),
    young=st.booleans(),
)
# A single one of ours in a part, several in the one behind it: these must not be the first to be worked on.
@example(names=[0, 1, 2, 3], foreign={1}, size=2, fails=set(), cuts=set(), partitions=1, young=True)
def test_of_a_flood_no_offset_is_durable_before_what_lies_before_it(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    names: Sequence[int],
    foreign: set[int],
    size: int,
    fails: set[int],
    cuts: set[int],
    partitions: int,
    young: bool,
) -> None:
    """Its parts are looked up while the ones before them are written, and the disk may refuse any of these.

    The batches it comes in are taken before the last parts of those before them are written, too.
    """

    async def run() -> None:
        terminal = FakeTerminal(login=1001)
        terminal.tick("EURUSD", 1.1, 1.1001)
        async with FlowKit.open(tmp_path_factory.mktemp("flood"), terminal=terminal) as kit:
            await kit.take([kit.record(None)])  # so that others' records need no commit for a while
            made = kit.clock.now_ms() - (0 if young else 60_000)
            batch = [
                kit.record(
                    kit.value(signal_id=f"s{name}", account=999 if place in foreign else 1001, **BUY),
                    timestamp_ms=made,
                    partition=place % partitions,
                )
                for place, name in enumerate(names)
            ]
            tries = 0

            async def check(name: str) -> None:
                nonlocal tries
                if name.startswith("committed"):
                    reached = await kit.journal.offsets("trading_signals")
                    passed = [
                        place for place, record in enumerate(batch) if record.offset < reached.get(record.partition, 0)
                    ]
                    due = {f"s{names[place]}" for place in passed if place not in foreign}
                    assert set(await kit.journal.seen(sorted(due))) == due
                elif name.startswith("commit ") and "OffsetMoved" in name:
                    tries += 1
                    if tries - 1 in fails:
                        raise JournalError("disk full")

            kit.journal.step = check
            entered = list[Mapping[tuple[str, int], int]]()
            async with asyncio.TaskGroup() as group:
                for begin, end in pairwise([0, *sorted(cut for cut in cuts if cut < len(batch)), len(batch)]):
                    await kit.intake.take(batch[begin:end], group, entered.append)
            for partition in range(partitions):
                told = [
                    behind["trading_signals", partition]
                    for behind in entered
                    if ("trading_signals", partition) in behind
                ]
                assert told == sorted(told)
                assert told[-1] == max(record.offset for record in batch if record.partition == partition) + 1
            kit.journal.step = None
            ours = {f"s{n}" for place, n in enumerate(names) if place not in foreign}
            assert set(await kit.journal.seen(sorted(ours))) == ours
            leap(2 * PASSED_S)
            await kit.take([kit.record(None, partition=partition) for partition in range(partitions)])
            assert set(await kit.journal.offsets("trading_signals")) == set(range(partitions))
            assert all(at > len(names) for at in (await kit.journal.offsets("trading_signals")).values())
            await kit.idle()
            assert len(await kit.results()) == len(ours)
            order = [r.comment for r in terminal.sent]
            assert (
                order
                == [f"s{n}" for n in dict.fromkeys(n for p, n in enumerate(names) if p not in foreign)][: len(order)]
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "COMMIT", size)
        run_simulated(run())
