import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.simulated import simulated

from mt5_bridge.core.wire import RequestId
from mt5_bridge.flows.turns import PATIENCE_S, Turns


class Told:
    def __init__(self, most: int = 100) -> None:
        self.ids: list[RequestId] = []
        self.turns = Turns(self._send, most=most)

    def _send(self, data: dict[str, Any], request_id: RequestId) -> None:
        self.ids.append(request_id)


@simulated
async def test_answers_leave_in_the_order_of_the_questions() -> None:
    told = Told()
    first, second, third = (told.turns.take() for _ in range(3))
    third.answer({}, 3)
    second.answer({}, 2)
    assert told.ids == []
    first.answer({}, 1)
    assert told.ids == [1, 2, 3]


@simulated
async def test_what_is_ready_overtakes_what_takes_long_in_its_own_order() -> None:
    told = Told()
    slow, second, third, fourth = (told.turns.take() for _ in range(4))
    third.answer({}, 3)
    await asyncio.sleep(PATIENCE_S / 2)
    second.answer({}, 2)
    await asyncio.sleep(PATIENCE_S / 2 + 0.01)
    assert told.ids == [2, 3]
    slow.answer({}, 1)
    fourth.answer({}, 4)
    await asyncio.sleep(2 * PATIENCE_S)
    assert told.ids == [2, 3, 1, 4]


@simulated
async def test_what_is_given_up_keeps_nobody_waiting() -> None:
    told = Told()
    gone, second = told.turns.take(), told.turns.take()
    second.answer({}, 2)
    gone.give_up()
    gone.give_up()
    second.give_up()
    assert told.ids == [2]


@simulated
async def test_without_a_place_an_answer_waits_for_nobody() -> None:
    told = Told(most=1)
    told.turns.take()
    told.turns.take().answer({}, 2)
    assert told.ids == [2]


@simulated
async def test_after_the_end_nothing_is_told() -> None:
    told = Told()
    told.turns.take()
    told.turns.take().answer({}, 2)
    told.turns.close()
    await asyncio.sleep(2 * PATIENCE_S)
    assert told.ids == []


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=20), st.integers(1, 30))
def test_each_is_told_once_and_nobody_waits_longer_than_patience(work: list[tuple[int, bool]], most: int) -> None:
    @simulated
    async def run() -> None:
        told = Told(most)
        loop = asyncio.get_running_loop()
        ready: dict[int, float] = {}
        late: list[float] = []
        send = told.turns._send

        def noted(data: dict[str, Any], request_id: RequestId) -> None:
            assert isinstance(request_id, int)
            late.append(loop.time() - ready[request_id])
            send(data, request_id)

        told.turns._send = noted

        async def do(number: int, tenths: int, answers: bool) -> None:
            turn = told.turns.take()
            await asyncio.sleep(tenths / 10)
            if answers:
                ready[number] = loop.time()
                turn.answer({}, number)
            turn.give_up()

        await asyncio.gather(*(do(number, *each) for number, each in enumerate(work)))
        await asyncio.sleep(PATIENCE_S + 0.01)
        assert sorted(map(str, told.ids)) == sorted(str(n) for n, (_, answers) in enumerate(work) if answers)
        assert all(seconds <= PATIENCE_S + 0.001 for seconds in late)
        if all(tenths < 10 for tenths, _ in work) and len(work) <= most:
            assert told.ids == sorted(told.ids, key=int), "in order while nobody is slow"  # type: ignore[arg-type]

    run()
