"""Places in MAX_ORDERS_PER_SECOND."""

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from support.flow_kit import FlowKit
from support.simulated import run_simulated, simulated

from mt5_bridge.core.decision import Limits
from mt5_bridge.core.messages import TradingSignal, Urgency
from mt5_bridge.core.model import Action
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import Job
from mt5_bridge.flows.rate import Rate


def a_job(key: str, rate_clock: Clock, urgency: Urgency = Urgency.NORMAL, ttl_ms: int | None = None) -> Job:
    now = rate_clock.now_ms()
    signal = TradingSignal(symbol="EURUSD", action=Action.BUY, urgency=urgency, ttl_ms=ttl_ms)
    return Job(key, signal, now, now, "redpanda")


def a_rate(clock: Clock, per_second: float | None, age_ms: int = 60_000) -> Rate:
    limits = Limits(max_orders_per_second=per_second, signal_max_age_ms=age_ms)
    return Rate(clock, lambda: limits)


@simulated
async def test_the_urgent_go_first_and_equals_as_they_came(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        rate, gone = a_rate(kit.clock, 1.0), list[str]()

        async def wait(job: Job) -> None:
            assert await rate.turn(job)
            rate.take(job)
            gone.append(job.key)

        first = a_job("first", kit.clock)
        assert rate.may_go(first)
        rate.take(first)
        jobs = [
            a_job("low", kit.clock, Urgency.LOW),
            a_job("one", kit.clock),
            a_job("two", kit.clock),
            a_job("critical", kit.clock, Urgency.CRITICAL),
        ]
        began = kit.clock.now_ms()
        await asyncio.gather(*map(wait, jobs))
        assert gone == ["critical", "one", "two", "low"]
        assert kit.clock.now_ms() - began >= 4000


@simulated
async def test_who_cannot_make_it_is_told_at_once_and_holds_up_nobody(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        rate = a_rate(kit.clock, 1.0)
        rate.take(a_job("first", kit.clock))
        began = kit.clock.now_ms()
        late = a_job("late", kit.clock, ttl_ms=500)
        assert not await rate.turn(late)
        assert kit.clock.now_ms() == began
        rate.leave(late)
        second = a_job("second", kit.clock, ttl_ms=1500)
        waiting = asyncio.create_task(rate.turn(second))
        await asyncio.sleep(0.1)
        # Behind it there is room too late for this one.
        third = a_job("third", kit.clock, ttl_ms=1500)
        assert not await rate.turn(third)
        rate.leave(third)
        assert await waiting
        rate.take(second)
        rate.leave(second)


@simulated
async def test_places_that_come_free_together_are_foreseen_together(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        rate = a_rate(kit.clock, 5.0)
        began = kit.clock.now_ms()
        for number in range(5):
            rate.take(a_job(f"burst {number}", kit.clock))
        jobs = [a_job(str(number), kit.clock, ttl_ms=1500) for number in range(5)]

        async def wait(job: Job) -> int:
            assert await rate.turn(job)
            rate.take(job)
            return kit.clock.now_ms() - began

        assert await asyncio.gather(*map(wait, jobs)) == [1000] * 5
        late = a_job("late", kit.clock, ttl_ms=999)
        assert not await rate.turn(late)
        rate.leave(late)


@simulated
async def test_who_is_judged_anew_holds_up_only_its_own_place(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        rate = a_rate(kit.clock, 2.0)
        for number in range(2):
            rate.take(a_job(f"burst {number}", kit.clock))
        head, second, third = (a_job(key, kit.clock) for key in ("head", "second", "third"))
        assert await rate.turn(head)
        assert rate.may_go(second)
        assert await rate.turn(second)
        assert not rate.may_go(third)


@simulated
async def test_a_more_urgent_one_takes_the_turn_of_who_waits(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        rate = a_rate(kit.clock, 1.0)
        rate.take(a_job("first", kit.clock))
        low = a_job("low", kit.clock, Urgency.LOW, ttl_ms=1500)
        waiting = asyncio.create_task(rate.turn(low))
        await asyncio.sleep(0.5)
        urgent = a_job("urgent", kit.clock, Urgency.HIGH)
        assert await rate.turn(urgent)
        rate.take(urgent)
        assert not await waiting  # its time is over before its turn comes again
        rate.leave(low)
        assert not rate.may_go(low)


@given(st.lists(st.sampled_from(list(Urgency)), max_size=8), st.sampled_from([0.5, 1.0, 3.0, 5.0]))
def test_never_more_than_the_rate_and_everybody_in_turn(urgencies: list[Urgency], per_second: float) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        clock = Clock(now_ms=lambda: round(loop.time() * 1000), monotonic=loop.time)
        rate, gone = a_rate(clock, per_second), list[tuple[int, Job]]()

        async def wait(job: Job) -> None:
            assert await rate.turn(job)
            rate.take(job)
            gone.append((clock.now_ms(), job))

        jobs = [a_job(str(number), clock, urgency) for number, urgency in enumerate(urgencies)]
        await asyncio.gather(*map(wait, jobs))
        assert len(gone) == len(jobs)
        room = max(1, int(per_second))
        window = room * 1000 / per_second
        times = [at for at, _ in gone]
        assert all(later - earlier >= window - 2 for earlier, later in zip(times, times[room:], strict=False))
        in_turn = sorted(gone[room:], key=lambda entry: (entry[1].signal.urgency.rank, int(entry[1].key)))
        assert [at for at, _ in in_turn] == times[room:]

    run_simulated(run())


@simulated
async def test_without_a_rate_nobody_waits(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        rate = a_rate(kit.clock, None)
        for number in range(20):
            job = a_job(str(number), kit.clock)
            assert rate.may_go(job)
            assert await rate.turn(job)
            rate.take(job)
