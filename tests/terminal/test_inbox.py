"""Both kinds of inbox, on a pipe and on a socket as asyncio gives a child: only who reads differs."""

import os
import queue
import socket
import sys
import threading
from collections.abc import Iterator

import pytest
from support.eventually import poll_until

from mt5_bridge.terminal.frames import BEAT, BYE, FrameError, pack, recall
from mt5_bridge.terminal.inbox import DirectInbox, Inbox, ThreadInbox

KINDS = [ThreadInbox, DirectInbox] if sys.platform == "linux" else [ThreadInbox]
WAYS = ("pipe",) if sys.platform == "win32" else ("pipe", "socket")
ONE, TWO = b"\xa3one", b"\xa3two"


class Parent:
    """The other end of the pipe."""

    def __init__(self, inbox: Inbox, writing: int) -> None:
        self.inbox = inbox
        self._writing = writing
        self.gone = threading.Event()
        inbox.watch(self.gone.set)

    def says(self, data: bytes) -> None:
        assert os.write(self._writing, data) == len(data)

    def goes(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1


@pytest.fixture(params=[(kind, way) for kind in KINDS for way in WAYS], ids=str)
def parent(request: pytest.FixtureRequest) -> Iterator[Parent]:
    kind, way = request.param
    if way == "pipe":
        reading, writing = os.pipe()
    else:
        ends = socket.socketpair()
        reading, writing = (end.detach() for end in ends)
    made = Parent(kind(reading), writing)
    yield made
    made.goes()
    assert made.gone.wait(10), "the thread is told of the end, and ends"
    os.close(reading)


def test_requests_come_in_their_order_until_the_parent_goes(parent: Parent) -> None:
    parent.says(bytes(pack("one") + BEAT + pack("two"))[:-2])
    assert parent.inbox.get(10) == ONE
    parent.says(bytes(pack("two"))[-2:])
    assert parent.inbox.get(None) == TWO
    assert not parent.gone.is_set()
    parent.goes()
    assert parent.inbox.get(None) is None
    assert not parent.inbox.dismissed


def test_what_is_taken_back_is_known_before_it_is_got(parent: Parent) -> None:
    parent.says(bytes(pack("one") + recall(7) + BEAT + recall(300)))
    poll_until(lambda: parent.inbox.look() or parent.inbox.recalled == {7, 300})
    assert parent.inbox.get(10) == ONE


def test_what_was_asked_before_the_end_is_still_heard(parent: Parent) -> None:
    parent.says(bytes(pack("one") + pack("two") + BYE))
    parent.goes()
    assert parent.gone.wait(10), "while nobody asks"
    assert [parent.inbox.get(10) for _ in range(3)] == [ONE, TWO, None]
    assert parent.inbox.dismissed


def test_a_sign_of_life_is_no_request_and_counts(parent: Parent) -> None:
    with pytest.raises(queue.Empty):
        parent.inbox.get(0.01)
    assert parent.inbox.reads == 0
    parent.says(BEAT)

    def seen() -> bool:
        parent.inbox.look()
        return parent.inbox.reads == 1

    poll_until(seen, 10)
    with pytest.raises(queue.Empty):
        parent.inbox.get(0.01)


def test_what_comes_while_nobody_asks_is_there_when_somebody_looks(parent: Parent) -> None:
    parent.says(bytes(pack("one")))

    def seen() -> bool:
        parent.inbox.look()
        return parent.inbox.reads > 0

    poll_until(seen, 10)
    parent.goes()
    parent.inbox.look()
    assert parent.inbox.get(0.01 if isinstance(parent.inbox, DirectInbox) else 10) == ONE
    assert parent.inbox.get(10) is None


def test_a_parting_word_counts_while_nobody_asks(parent: Parent) -> None:
    """A call hangs, and the parent that has said goodbye is gone: nothing is to be done for it."""
    parent.says(BYE)
    parent.goes()
    assert parent.gone.wait(10)
    assert parent.inbox.dismissed


def test_what_is_no_frame_is_an_error_for_who_asks(parent: Parent) -> None:
    parent.says(b"\xff" * 8)
    with pytest.raises(FrameError):
        parent.inbox.get(10)
