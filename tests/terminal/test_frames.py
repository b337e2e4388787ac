import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.terminal.frames import (
    BEAT,
    BYE,
    MAX_FRAME,
    Failure,
    FrameError,
    FrameReader,
    Reply,
    Request,
    pack,
    payload_of,
    recall,
    recalled,
)


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 50))
def test_frames_survive_any_cut_of_the_stream(payloads: list[bytes], cut: int) -> None:
    stream = b"".join(pack(p) for p in payloads)
    reader = FrameReader()
    found = [f for i in range(0, len(stream), cut) for f in reader.feed(stream[i : i + cut])]
    assert [msgspec.msgpack.decode(f) for f in found] == payloads


def test_request_and_reply_cross_the_pipe() -> None:
    reader = FrameReader()
    (payload,) = reader.feed(pack(Request(7, "tick", ["EURUSD", None])))
    assert msgspec.msgpack.decode(payload, type=Request) == Request(7, "tick", ["EURUSD", None])
    (payload,) = reader.feed(pack((7, Failure("terminal", -4, "not found", True), None)))
    reply = msgspec.msgpack.decode(payload, type=Reply)
    assert reply.failure == Failure("terminal", -4, "not found", True)
    (payload,) = reader.feed(pack((8, None, [1.5])))
    assert msgspec.msgpack.decode(msgspec.msgpack.decode(payload, type=Reply).result) == [1.5]


@given(st.integers(0, 2**63 - 1))
def test_what_takes_a_request_back_says_which_and_is_nothing_else(number: int) -> None:
    assert recalled(payload_of(recall(number))) == number
    with pytest.raises(FrameError, match="recall"):
        recalled(payload_of(pack(Request(0, "recall", ["one"]))))
    for other in (BEAT, BYE, pack(Request(number, "send", [])), pack(Request(0, "recalled", [number]))):
        assert recalled(payload_of(other)) is None


def test_a_length_no_honest_frame_has_stops_the_reading() -> None:
    with pytest.raises(FrameError, match="announced"):
        list(FrameReader().feed((MAX_FRAME + 1).to_bytes(4, "big")))
