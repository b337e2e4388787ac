import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from mt5_bridge.gateway.hub import frames


def parsed(data: bytes) -> list[Frame]:
    """What another implementation reads in them."""
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.receive_data(data)
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65_535, 65_536, 100_000])
def test_a_text_frame_is_read_by_others(length: int) -> None:
    (frame,) = parsed(frames.framed(b"x" * length))
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.TEXT, True, b"x" * length)


def test_frames_may_be_joined() -> None:
    read = parsed(frames.framed(b"one") + frames.ping(b"12345678") + frames.framed(b"two"))
    assert [(frame.opcode, bytes(frame.data)) for frame in read] == [
        (Opcode.TEXT, b"one"),
        (Opcode.PING, b"12345678"),
        (Opcode.TEXT, b"two"),
    ]


def test_a_message_has_the_envelope_of_the_contract() -> None:
    (frame,) = parsed(frames.message("error", {"code": "x"}, now_msc=0, request_id=7))
    expected = b'{"type":"error","request_id":7,"timestamp":"1970-01-01T00:00:00.000Z","data":{"code":"x"}}'
    assert bytes(frame.data) == expected
