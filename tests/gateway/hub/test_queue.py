from collections import deque

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mt5_bridge.gateway.hub.queue import BATCH, SPARE_FRAMES, ClientQueue


def test_events_before_what_only_the_newest_counts_of() -> None:
    queue = ClientQueue()
    queue.put_latest("ticks", "EURUSD", b"old")
    queue.put(b"one")
    queue.put_latest("ticks", "EURUSD", b"new")
    queue.put(b"two")
    assert len(queue) == 3
    assert queue.take() == [b"one", b"two", b"new"]
    assert queue.stats.conflated == 1
    assert queue.take() == []


def test_a_stop_s_answer_goes_first_and_finds_room_when_there_is_none() -> None:
    queue = ClientQueue(max_frames=2)
    assert queue.put(b"1")
    assert queue.put(b"2")
    assert not queue.put(b"3")
    assert queue.put_first(b"stopped")
    assert queue.take() == [b"stopped", b"1", b"2"]


def test_even_a_stop_s_room_is_bounded() -> None:
    queue = ClientQueue(max_frames=2)
    assert all(queue.put_first(b"x") for _ in range(2 + SPARE_FRAMES))
    assert not queue.put_first(b"x")


def test_a_frame_larger_than_all_the_room_goes_alone() -> None:
    queue = ClientQueue(max_bytes=10)
    assert queue.put(b"x" * 50)
    assert not queue.put(b"y")
    assert queue.take() == [b"x" * 50]
    assert queue.put(b"y")


def test_a_batch_is_bounded() -> None:
    queue = ClientQueue()
    for _ in range(3):
        queue.put(b"x" * BATCH)
    assert [len(queue.take()) for _ in range(4)] == [1, 1, 1, 0]


def test_what_is_not_wanted_any_more_is_dropped() -> None:
    queue = ClientQueue()
    for symbol in ("EURUSD", "GBPUSD"):
        queue.put_latest("ticks", symbol, symbol.encode())
    queue.put_latest("account", "account_info", b"a")
    queue.forget("ticks", "EURUSD")
    assert queue.take() == [b"GBPUSD", b"a"]
    queue.put_latest("ticks", "EURUSD", b"x")
    queue.forget("ticks")
    assert len(queue) == 0


def test_newest_states_wait_while_too_much_is_on_its_way() -> None:
    queue = ClientQueue(window=100)
    for number in range(5):
        queue.put_latest("ticks", f"S{number}", b"x" * 40)
    assert len(queue.take()) == 3
    mark = queue.to_confirm()
    assert mark == 120
    assert queue.take() == []
    assert queue.to_confirm() is None
    queue.put(b"event")
    assert queue.take() == [b"event"]
    queue.put_latest("ticks", "S4", b"newer")
    queue.confirmed(mark)
    assert queue.take() == [b"x" * 40, b"newer"]


@pytest.mark.parametrize("mark", [0, -1, 41, 10**30])
def test_a_mark_that_was_never_asked_for_confirms_nothing(mark: int) -> None:
    queue = ClientQueue(window=40)
    queue.put_latest("ticks", "A", b"x" * 40)
    assert queue.take()
    assert queue.to_confirm() == 40
    queue.confirmed(mark)
    queue.put_latest("ticks", "A", b"x")
    assert queue.take() == []


class QueueMachine(RuleBasedStateMachine):
    """A queue beside the plainest one: two containers, and what was said of their bounds."""

    MAX_FRAMES, MAX_BYTES, WINDOW = 6, 120, 100

    def __init__(self) -> None:
        super().__init__()
        self.queue = ClientQueue(max_frames=self.MAX_FRAMES, max_bytes=self.MAX_BYTES, window=self.WINDOW)
        self.ordered: deque[bytes] = deque()
        self.latest: dict[tuple[str, str], bytes] = {}
        self.marks: list[int] = []
        self.sent = self.confirmed = self.asked = self.number = 0

    def frame(self, size: int) -> bytes:
        self.number += 1
        return f"{self.number}:".encode().ljust(size, b".")

    @rule(size=st.integers(1, 150))
    def put(self, size: int) -> None:
        frame = self.frame(size)
        room = not self.ordered or (
            len(self.ordered) < self.MAX_FRAMES and sum(map(len, self.ordered)) + len(frame) <= self.MAX_BYTES
        )
        assert self.queue.put(frame) == room
        if room:
            self.ordered.append(frame)

    @precondition(lambda self: len(self.ordered) < self.MAX_FRAMES + SPARE_FRAMES)
    @rule(size=st.integers(1, 30))
    def put_first(self, size: int) -> None:
        frame = self.frame(size)
        assert self.queue.put_first(frame)
        self.ordered.appendleft(frame)

    @rule(channel=st.sampled_from("ab"), slot=st.sampled_from("xyz"), size=st.integers(1, 60))
    def put_latest(self, channel: str, slot: str, size: int) -> None:
        frame = self.frame(size)
        self.queue.put_latest(channel, slot, frame)
        self.latest[channel, slot] = frame

    @rule(channel=st.sampled_from("ab"), slot=st.none() | st.sampled_from("xyz"))
    def forget(self, channel: str, slot: str | None) -> None:
        self.queue.forget(channel, slot)
        for key in [key for key in self.latest if key[0] == channel and slot in (None, key[1])]:
            del self.latest[key]

    @rule()
    def take(self) -> None:
        taken = self.queue.take()
        # Nothing of the ordered lane is ever missing, late or twice.
        assert taken[: len(self.ordered)] == list(self.ordered)
        newest = taken[len(self.ordered) :]
        assert newest == list(self.latest.values())[: len(newest)]
        on_its_way = self.sent + sum(map(len, self.ordered)) - self.confirmed
        for key in [key for key, frame in self.latest.items() if frame in newest]:
            assert on_its_way < self.WINDOW
            on_its_way += len(self.latest.pop(key))
        assert not self.latest or on_its_way >= self.WINDOW, "there was room for what is newest"
        self.ordered.clear()
        self.sent += sum(map(len, taken))
        mark = self.queue.to_confirm()
        assert (mark is not None) == (self.sent - self.asked >= self.WINDOW // 4)
        if mark is not None:
            assert mark == self.sent
            self.asked = mark
            self.marks.append(mark)

    @rule(count=st.integers(1, 3), size=st.integers(1, 150))
    def passes(self, count: int, size: int) -> None:
        """Past the lanes goes only what would have left at once, and in its turn."""
        room = self.WINDOW - (self.sent - self.confirmed)
        assert self.queue.passes(count, size) == (not self.ordered and not self.latest and size <= room)
        if not self.ordered and not self.latest and size <= room:
            self.sent += size

    @precondition(lambda self: self.marks)
    @rule(data=st.data())
    def confirm(self, data: st.DataObject) -> None:
        mark = data.draw(st.sampled_from(self.marks))
        self.queue.confirmed(mark)
        self.confirmed = max(self.confirmed, mark)

    @rule(mark=st.integers(-5, 10**6))
    def confirm_what_was_not_sent(self, mark: int) -> None:
        if mark > self.asked:
            self.queue.confirmed(mark)

    @invariant()
    def counts(self) -> None:
        assert len(self.queue) == len(self.ordered) + len(self.latest)
        assert self.queue.stats.sent_bytes == self.sent

    def teardown(self) -> None:
        """Whatever happened: once all is confirmed, everything that waits leaves."""
        for _ in range(len(self.latest) + 2):
            self.take()
            if self.marks:
                self.queue.confirmed(self.marks[-1])
                self.confirmed = self.marks[-1]
        assert len(self.queue) == 0


TestQueueMachine = QueueMachine.TestCase
