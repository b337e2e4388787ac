"""Topics that take nothing for now: how often they are tried, and what is said of it."""

import asyncio
from collections.abc import Iterator

import pytest
from support.logged import event, logged
from support.simulated import simulated

from mt5_bridge.redpanda.gates import POLICY, Gates


@pytest.fixture
def lines() -> Iterator[list[str]]:
    with logged(event) as found:
        yield found


def test_it_is_tried_ever_more_rarely_but_soon_enough(lines: list[str]) -> None:
    now = [0.0]
    gates = Gates(lambda: 0.999, lambda: now[0])
    tries = 0
    while now[0] < 100:
        if not gates.shut("events"):
            tries += 1
            for _ in range(3):  # one batch of each partition
                gates.refused("events", "not allowed")
        now[0] += 0.05
    assert 100 / POLICY.cap - 2 <= tries <= 100 / POLICY.cap + 5
    assert not gates.shut("ticks")
    assert lines == ["topic_refused"] * 2, "once, and a reminder after a minute"


def test_what_is_open_again_is_said_once(lines: list[str]) -> None:
    gates = Gates()
    gates.taken("events")
    gates.refused("events", "not allowed")
    assert "events" in gates.refusing
    gates.taken("events")
    gates.taken("events")
    assert not gates.refusing
    assert not gates.shut("events")
    assert lines == ["topic_refused", "topic_open"]


@simulated
async def test_who_comes_to_a_shut_topic_waits_for_its_turn() -> None:
    loop = asyncio.get_running_loop()
    gates = Gates(lambda: 0.999, loop.time)
    began = loop.time()
    await gates.open("events")
    assert loop.time() == began
    gates.refused("events", "not allowed")
    await gates.open("ticks")
    assert loop.time() == began
    await gates.open("events")
    assert 0.9 < loop.time() - began < 1.1
