"""What the control room is told and what it tells: configuration, state, counters."""

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from mt5_bridge.control.outbound import OutboundStats
from mt5_bridge.control.security import Credentials


class ChannelState(StrEnum):
    """Where the connection stands."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    REFUSED = "refused"
    """The backend does not accept the token (401, 403); tried again slowly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlConfig:
    """How to reach the backend.

    Attributes:
        url: `ws://` or `wss://` address.
        token: sent as `Authorization: Bearer`; None sends no such header.
        max_size: bytes of the largest frame accepted.
        max_frames: frames that may wait to be sent in order.
        max_bytes: bytes that may wait to be sent in order.
        tls: context for `wss://`; None takes the platform's trusted roots.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    max_size: int = 1 << 20
    max_frames: int = 1024
    max_bytes: int = 8 << 20
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def credentials(self) -> Credentials:
        """Token and context together."""
        return Credentials(token=self.token, tls=self.tls)


def whereabouts(url: str) -> str:
    """The address for people: without user, password and query, in which tokens travel."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(slots=True)
class ControlStats:
    """Counters of the connection; `outbound` has those of the send side."""

    attempts: int = 0
    connections: int = 0
    refusals: int = 0
    frames_in: int = 0
    frames_out: int = 0
    half_open: int = 0
    unconfirmed: int = 0
    outbound: OutboundStats = field(default_factory=OutboundStats)
