"""Frames between the daemon and the terminal host: a length of four bytes, then msgpack. Pure.

One request is in flight at a time, so a reply needs only the number of its request to be matched.
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

_LENGTH = struct.Struct(">I")
MAX_FRAME = 256 * 1024 * 1024
"""No honest frame is longer (4 million ticks): a longer one means that something else wrote to the pipe."""


IPC_FAIL = -10000
"""last_error codes from here down mean that the pipe to the terminal is broken or was never there."""


class FrameError(Exception):
    """The bytes are no frames: the stream cannot be read on."""


class Request(msgspec.Struct, frozen=True, array_like=True):
    """A call of the daemon: the operation's name and its positional arguments."""

    id: int
    op: str
    args: list[Any]


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """Why a call failed.

    Attributes:
        kind: `terminal` (its last_error is in `code`), `mismatch` (another account answered), `settings`, `import`,
            `validation` (a request the host does not understand), `busy` (an earlier host still acts), `withdrawn` (an
            order taken back before `order_send`, see `recall`), `bug`.
        code: the terminal's last_error where it has one.
        text: for people.
        sent: `order_send` had been called.
    """

    kind: str
    code: int | None
    text: str
    sent: bool = False


class HostError(Exception):
    """An operation failed in the host; the daemon gets `failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """The host's answer: `failure`, or the result still undecoded."""

    id: int
    failure: Failure | None
    result: msgspec.Raw = msgspec.Raw(b"\xc0")


_encoder = msgspec.msgpack.Encoder()


def pack(message: Any) -> bytearray:
    """One whole frame of anything msgpack can carry."""
    frame = bytearray(_LENGTH.size)
    _encoder.encode_into(message, frame, _LENGTH.size)
    _LENGTH.pack_into(frame, 0, len(frame) - _LENGTH.size)
    return frame


BEAT = bytes(pack(Request(0, "beat", [])))
"""The daemon lives and has nothing to ask. It is not answered."""
BYE = bytes(pack(Request(0, "bye", [])))
"""The daemon ends in order: the end of the pipe is none to act on. It is not answered."""


def payload_of(frame: bytes | bytearray) -> bytes:
    """What a `FrameReader` makes of a single frame."""
    return bytes(frame[_LENGTH.size :])


_RECALL_HEAD = payload_of(pack(Request(0, "recall", [0])))[:-1]


def recall(number: int) -> bytearray:
    """Takes back the order of a request: it counts until `order_send` is called. It is not answered."""
    return pack(Request(0, "recall", [number]))


def recalled(payload: bytes) -> int | None:
    """The number of the request whose order is taken back; None: it is no such frame."""
    if not payload.startswith(_RECALL_HEAD):
        return None
    try:
        return msgspec.msgpack.decode(payload[len(_RECALL_HEAD) :], type=int)
    except msgspec.MsgspecError as error:
        raise FrameError(f"a recall of what is no number: {error}") from error


class FrameReader:
    """Cuts a byte stream into frames, however the pipe cut it."""

    def __init__(self) -> None:
        # A page of ticks comes in many pieces: they are joined once, when the last is there.
        self._pieces: list[bytes | bytearray] = []
        self._held = 0
        self._due: int | None = None

    def feed(self, data: bytes | bytearray) -> Iterator[bytes]:
        """Take bytes and yield the payload of every frame now complete.

        Raises:
            FrameError: a length beyond MAX_FRAME.
        """
        self._pieces.append(data)
        self._held += len(data)
        while True:
            if self._due is None:
                if self._held < _LENGTH.size:
                    return
                (length,) = _LENGTH.unpack(self._take(_LENGTH.size))
                if length > MAX_FRAME:
                    raise FrameError(f"a frame of {length} bytes announced")
                self._due = length
            if self._held < self._due:
                return
            payload, self._due = self._take(self._due), None
            yield payload

    def _take(self, size: int) -> bytes:
        whole = self._pieces[0] if len(self._pieces[0]) >= size else b"".join(self._pieces)
        left = self._pieces[1:] if whole is self._pieces[0] else []
        rest = whole[size:]
        self._pieces = [rest, *left] if rest or not left else left
        self._held -= size
        return bytes(whole if len(whole) == size else whole[:size])
