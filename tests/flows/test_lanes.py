import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from loguru import logger
from support.eventually import eventually

from mt5_bridge.core import correlation
from mt5_bridge.core.messages import TradingSignal, Urgency
from mt5_bridge.core.model import Action
from mt5_bridge.flows import lanes as module
from mt5_bridge.flows.job import Job
from mt5_bridge.flows.lanes import Lanes, UrgencyGate

if TYPE_CHECKING:
    from loguru import Message


def a_job(key: str = "k", urgency: Urgency = Urgency.NORMAL, symbol: str = "EURUSD") -> Job:
    signal = TradingSignal(symbol=symbol, action=Action.BUY, urgency=urgency)
    return Job(key, signal, 0, 0, "redpanda")


class Worker:
    """Works jobs off, each when it is let."""

    def __init__(self, *, free: bool = True) -> None:
        self.done: list[str] = []
        self.begun: list[str] = []
        self.defects: list[BaseException] = []
        self.go = asyncio.Event()
        if free:
            self.go.set()
        self.lanes = Lanes(self.work, self.defects.append)

    async def work(self, job: Job) -> None:
        self.begun.append(job.key)
        await self.go.wait()
        if job.key == "bad":
            raise ValueError("a defect")
        self.done.append(job.key)

    def submit(self, *keys: str, name: str = "EURUSD", urgency: Urgency = Urgency.NORMAL) -> None:
        for key in keys:
            self.lanes.submit(name, a_job(key, urgency, name))


async def test_a_lane_works_in_order_and_lanes_side_by_side() -> None:
    worker = Worker(free=False)
    worker.submit("a", "b")
    worker.submit("y", name="USDJPY")
    await eventually(lambda: worker.begun == ["a", "y"])
    assert worker.lanes.waiting == 1
    worker.go.set()
    await eventually(lambda: sorted(worker.done) == ["a", "b", "y"])
    assert worker.lanes.waiting == 0
    worker.submit("again")
    await eventually(lambda: worker.done[-1] == "again")
    await worker.lanes.close()


async def test_a_defect_is_told_and_the_lane_goes_on() -> None:
    worker = Worker()
    worker.submit("bad", "good")
    await eventually(lambda: worker.done == ["good"])
    assert [str(error) for error in worker.defects] == ["a defect"]
    await worker.lanes.close()


async def test_dropping_takes_only_what_waits() -> None:
    worker = Worker(free=False)
    worker.submit("a", "b", "c", "d")
    await eventually(lambda: worker.begun == ["a"])
    dropped = worker.lanes.drop("EURUSD", lambda place, job: place != 1)
    assert [job.key for job in dropped] == ["b", "d"]
    assert worker.lanes.waiting == 1
    assert worker.lanes.drop("NOPE", lambda place, job: True) == []
    worker.go.set()
    await eventually(lambda: worker.done == ["a", "c"])
    await worker.lanes.close()


async def test_closing_leaves_what_waits_and_takes_nothing_up() -> None:
    worker = Worker(free=False)
    worker.submit("a", "b")
    await eventually(lambda: worker.begun == ["a"])
    await worker.lanes.close()
    worker.submit("c")
    await asyncio.sleep(0)
    assert (worker.begun, worker.done) == (["a"], [])
    assert worker.lanes.waiting == 2


async def test_there_is_room_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    worker = Worker(free=False)
    worker.submit("a", "b", "c")
    await eventually(lambda: worker.begun == ["a"])
    waiting = asyncio.ensure_future(worker.lanes.has_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    worker.go.set()
    await waiting
    await eventually(lambda: len(worker.done) == 3)
    await worker.lanes.close()


async def test_among_symbols_the_most_urgent_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ACTIVE", 1)
    worker = Worker(free=False)
    worker.submit("first", name="A")
    await eventually(lambda: worker.begun == ["first"])
    worker.submit("low", name="B", urgency=Urgency.LOW)
    worker.submit("normal", name="C")
    worker.submit("critical", name="D", urgency=Urgency.CRITICAL)
    worker.submit("gone", name="E", urgency=Urgency.CRITICAL)
    await asyncio.sleep(0)
    worker.lanes.drop("E", lambda place, job: True)
    worker.go.set()
    await eventually(lambda: len(worker.done) == 4)
    assert worker.done == ["first", "critical", "normal", "low"]
    await worker.lanes.close()


async def _hold(gate: UrgencyGate, rank: int, note: Callable[[], None], until: asyncio.Event) -> None:
    async with gate.hold(rank):
        note()
        await until.wait()


async def test_a_place_given_to_one_who_left_is_given_on() -> None:
    gate, until, order = UrgencyGate(1), asyncio.Event(), list[str]()
    one = asyncio.create_task(_hold(gate, 0, lambda: order.append("one"), until))
    await asyncio.sleep(0)
    left = asyncio.create_task(_hold(gate, 0, lambda: order.append("left"), until))
    given = asyncio.create_task(_hold(gate, 0, lambda: order.append("given"), until))
    last = asyncio.create_task(_hold(gate, 0, lambda: order.append("last"), until))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    until.set()
    await asyncio.wait([one])  # its place is promised to `given`, who leaves before it can take it
    given.cancel()
    await asyncio.wait([given, last])
    assert order[0] == "one"
    assert order[-1] == "last"
    assert "left" not in order
    async with gate.hold(3):
        order.append("free")
    assert order[-1] == "free"


async def test_what_is_logged_for_a_job_bears_its_request_and_no_other() -> None:
    lines: list[tuple[str, str | None]] = []

    def take(message: "Message") -> None:
        lines.append((message.record["message"], message.record["extra"].get("correlation_id")))

    sink = logger.add(take)

    async def work(job: Job) -> None:
        logger.info(job.key)

    defects: list[BaseException] = []
    lanes = Lanes(work, defects.append)
    try:
        token = correlation.request.set("http-1")
        with logger.contextualize(correlation_id="http-1"):
            lanes.submit("EURUSD", a_job("asked"))
        correlation.request.reset(token)
        lanes.submit("EURUSD", a_job("of the topic"))
        await eventually(lambda: not lanes.busy)
    finally:
        logger.remove(sink)
        await lanes.close()
    assert defects == []
    assert lines == [("asked", "http-1"), ("of the topic", None)]
