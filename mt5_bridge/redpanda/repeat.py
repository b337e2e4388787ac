"""A request that is sent again and again while nothing happens: encoded once, and the same answer decoded once."""

from io import BytesIO
from typing import Any


class Repeated:
    """What `AIOKafkaClient.send` takes as a request.

    Args:
        request: one of aiokafka's, not changed any more.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        self._versions: Any = None
        self._prepared: _Prepared | None = None

    def prepare(self, versions: Any) -> "_Prepared":
        """The request in the version that a connection speaks."""
        if self._prepared is None or versions is not self._versions:
            self._versions = versions
            self._prepared = _Prepared(self._request.prepare(versions))
        return self._prepared


class _Prepared:
    """Stands for a request's struct and, being asked once at a time, for the type of its answer, too."""

    def __init__(self, struct: Any) -> None:
        self.build_request_header = struct.build_request_header
        self.parse_response_header = struct.parse_response_header
        self.RESPONSE_TYPE = self
        self._type = struct.RESPONSE_TYPE
        self._encoded: bytes = struct.encode()
        self._last: bytes | None = None
        self._answer: Any = None

    def encode(self) -> bytes:
        return self._encoded

    def decode(self, buffer: BytesIO) -> Any:
        """The answer; the very object given before where the bytes are the same."""
        data = buffer.read()
        if data != self._last:
            self._answer = self._type.decode(BytesIO(data))
            # An answer with records does not come twice, and is not kept.
            self._last = data if len(data) < _EMPTY_BYTES else None
        return self._answer


_EMPTY_BYTES = 16_384
"""More than an answer without records has."""
