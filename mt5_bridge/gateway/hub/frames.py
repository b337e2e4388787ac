"""Frames as they go over the wire: made once, given to any number of clients as the same bytes.

A server's frames are not masked (RFC 6455, 5.1), so nothing of them depends on the client; compression, which would,
is not offered.
"""

from typing import Any

from mt5_bridge.core import wire

_TEXT = 0x81
_PING = 0x89


def framed(payload: bytes) -> bytes:
    """A whole text frame around a message (RFC 6455, 5.2)."""
    return _head(_TEXT, len(payload)) + payload


def ping(payload: bytes) -> bytes:
    """A whole ping frame; its payload has at most 125 bytes."""
    return _head(_PING, len(payload)) + payload


def message(type: str, data: Any, *, now_msc: int, request_id: wire.RequestId = None) -> bytes:
    """A message in the contract's envelope, framed."""
    return framed(wire.encode(type, data, now_msc=now_msc, request_id=request_id))


def _head(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2, "big")
    return bytes((first, 127)) + length.to_bytes(8, "big")
