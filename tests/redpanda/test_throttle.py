"""What a quota says is heeded: nothing is asked of a broker that does not listen, others are asked at once."""

import asyncio
from dataclasses import dataclass

from support.simulated import simulated

from mt5_bridge.redpanda.throttle import Throttle


@dataclass
class Answer:
    throttle_time_ms: int


def now() -> float:
    return asyncio.get_running_loop().time()


class Client:
    """Answers at once, with the pauses it is given; notes when it was asked."""

    def __init__(self, *pauses: int) -> None:
        self.pauses = list(pauses)
        self.asked: list[tuple[int, float]] = []

    async def send(self, node: int, request: object, *, group: int = 0) -> object:
        self.asked.append((node, now()))
        return Answer(self.pauses.pop(0)) if self.pauses else object()


@simulated
async def test_the_next_request_waits_as_long_as_the_last_answer_said() -> None:
    client = Client(3_000, 0)
    throttle = Throttle(client, "Producer", now)
    assert throttle.left() == 0.0
    began = now()
    await client.send(1, "first")
    assert 2.9 < throttle.left() <= 3.0
    await client.send(2, "another broker", group=1)
    await client.send(1, "second")
    await client.send(1, "third, an answer that knows no pauses")
    waited = [(node, round(at - began)) for node, at in client.asked]
    assert waited == [(1, 0), (2, 0), (1, 3), (1, 3)]
    assert throttle.left() == 0.0


@simulated
async def test_a_request_that_waits_can_be_given_up() -> None:
    client = Client(60_000)
    Throttle(client, "Producer", now)
    await client.send(1, "first")
    waiting = asyncio.create_task(client.send(1, "second"))
    await asyncio.sleep(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert len(client.asked) == 1


@simulated
async def test_a_pause_of_days_is_not_believed() -> None:
    client = Client(2**31 - 1)
    throttle = Throttle(client, "Producer", now)
    await client.send(1, "first")
    assert throttle.left() == 60.0
    began = now()
    await client.send(1, "second")
    assert round(now() - began) == 60
