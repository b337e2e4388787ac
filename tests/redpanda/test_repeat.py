"""An idle topic is asked the same again and again."""

from io import BytesIO
from typing import Any, ClassVar

from mt5_bridge.redpanda.repeat import Repeated


class Answer:
    decoded: ClassVar[list[bytes]] = []

    @classmethod
    def decode(cls, buffer: BytesIO) -> "Answer":
        cls.decoded.append(buffer.read())
        return cls()


class Struct:
    RESPONSE_TYPE = Answer

    def __init__(self, version: int) -> None:
        self.version = version

    def encode(self) -> bytes:
        return b"v%d" % self.version

    def build_request_header(self, **more: Any) -> tuple[int, dict[str, Any]]:
        return self.version, more

    def parse_response_header(self, buffer: BytesIO) -> bytes:
        return buffer.read(1)


class Request:
    def __init__(self) -> None:
        self.prepared = 0

    def prepare(self, versions: dict[int, int]) -> Struct:
        self.prepared += 1
        return Struct(versions[1])


def test_it_is_encoded_once_for_a_connection_and_anew_for_another() -> None:
    request = Request()
    repeated, versions = Repeated(request), {1: 4}
    first = repeated.prepare(versions)
    assert first.encode() == b"v4"
    assert first.build_request_header(client_id="b") == (4, {"client_id": "b"})
    assert first.parse_response_header(BytesIO(b"ab")) == b"a"
    assert repeated.prepare(versions) is first
    assert repeated.prepare({1: 11}).encode() == b"v11"
    assert request.prepared == 2


def test_only_an_answer_like_the_last_one_is_the_same_object() -> None:
    Answer.decoded.clear()
    kind = Repeated(Request()).prepare({1: 4}).RESPONSE_TYPE
    one, again, other, large = (kind.decode(BytesIO(data)) for data in (b"a", b"a", b"b", b"c" * 20_000))
    assert one is again
    assert len({id(each) for each in (one, other, large)}) == 3
    assert kind.decode(BytesIO(b"c" * 20_000)) is not large
    assert len(Answer.decoded) == 4
