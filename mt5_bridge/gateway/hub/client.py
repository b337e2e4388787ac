"""One client of the hub: who it is, what it wants to hear, what waits for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

from mt5_bridge.core.channels import Channel
from mt5_bridge.core.times import iso
from mt5_bridge.gateway.auth import Principal
from mt5_bridge.gateway.hub import frames
from mt5_bridge.gateway.hub.limit import Allowance
from mt5_bridge.gateway.hub.queue import ClientQueue
from mt5_bridge.gateway.hub.subscriptions import Subscriptions

MARK_BYTES = 8


class Close(IntEnum):
    """Why the hub ends a connection: the close codes of docs/gateway.md, besides those of RFC 6455."""

    UNAUTHORIZED = 4401
    """The token is wrong or has expired, or the first frame was no `auth`."""
    AUTH_TIMEOUT = 4408
    """No `auth` frame within its time."""
    FULL = 4503
    """MAX_CONNECTIONS clients are connected."""
    TOO_SLOW = 4413
    """Events or answers found no room: it reads too slowly, has missed some, and must read the state anew."""


class Peer(Protocol):
    """The connection itself. Nothing of it waits."""

    @property
    def ready(self) -> bool:
        """Whether what is written now leaves soon."""
        ...

    def write(self, frames: bytes) -> None:
        """Whole frames, one behind the other."""
        ...

    def close(self, code: int, reason: str) -> None:
        """End the connection, a peer that reads nothing too."""
        ...


class Share:
    """What the bridge told, as far as subscriptions want it: made once for all clients that have the same.

    Args:
        subscriptions: theirs.
        events: frames that must not be lost, in order.
        latest: channel, slot and frame of what has a newest.
    """

    __slots__ = ("count", "events", "latest", "whole")

    def __init__(
        self, subscriptions: Subscriptions, events: Sequence[bytes], latest: Iterable[tuple[Channel, str, bytes]]
    ) -> None:
        wants = subscriptions.wants
        self.events = events if Channel.EVENTS in subscriptions.channels else ()
        self.latest = [each for each in latest if wants(each[0], each[1])]
        self.count = len(self.events) + len(self.latest)
        self.whole = b"".join((*self.events, *(frame for _, _, frame in self.latest)))


@dataclass(slots=True)
class ClientStats:
    """Counters of one client, besides those of its queue."""

    received: int = 0
    refused: int = 0
    """Frames over the rate, not looked at."""
    invalid: int = 0


class Client:
    """A connection that has shown who it is.

    Args:
        peer: the connection.
        principal: who.
        remote: its address, for people.
        per_s: RATE_LIMIT_MESSAGES.
        now: monotonic seconds.
        now_ms: UTC ms.
    """

    __slots__ = (
        "allowance", "dropped", "in_flight", "last_error", "number", "peer", "principal", "queue", "remote",
        "since_msc", "stats", "subscriptions",
    )  # fmt: skip

    def __init__(
        self, number: int, peer: Peer, principal: Principal, *, remote: str, per_s: float, now: float, now_ms: int
    ) -> None:
        self.number = number
        self.peer = peer
        self.principal = principal
        self.remote = remote
        self.since_msc = now_ms
        self.queue = ClientQueue()
        self.subscriptions = Subscriptions()
        self.allowance = Allowance(per_s, now)
        self.stats = ClientStats()
        self.in_flight = 0
        self.last_error = float("-inf")
        self.dropped = False

    def send(self, frame: bytes, *, first: bool = False) -> None:
        """Tell it something that must not be lost; it is dropped when there is no room."""
        if self.dropped:
            return
        if self.queue.put_first(frame) if first else self.queue.put(frame):
            self.flush()
        else:
            self.drop(Close.TOO_SLOW, "too slow: events or answers found no room")

    def give(self, share: "Share") -> None:
        """What the bridge told, as far as it is wanted here."""
        if self.dropped or not share.count:
            return
        if self.peer.ready and self.queue.passes(share.count, len(share.whole)):
            self._write(share.whole)
            return
        for frame in share.events:
            if not self.queue.put(frame):
                self.drop(Close.TOO_SLOW, "too slow: events or answers found no room")
                return
        for channel, slot, frame in share.latest:
            self.queue.put_latest(channel, slot, frame)
        self.flush()

    def flush(self) -> None:
        """Write what may leave now."""
        while self.peer.ready and not self.dropped:
            batch = self.queue.take()
            if not batch:
                return
            self._write(b"".join(batch))

    def _write(self, batch: bytes) -> None:
        mark = self.queue.to_confirm()
        if mark is not None:
            batch += frames.ping(mark.to_bytes(MARK_BYTES, "big"))
        self.peer.write(batch)

    def on_pong(self, payload: bytes) -> None:
        """The peer has read what was sent before that ping."""
        if len(payload) == MARK_BYTES:
            self.queue.confirmed(int.from_bytes(payload, "big"))
            self.flush()

    def drop(self, code: int, reason: str) -> None:
        """End the connection."""
        if not self.dropped:
            self.dropped = True
            self.peer.close(code, reason)

    def data(self) -> dict[str, Any]:
        """As the hub's status shows it."""
        return {
            "id": self.number,
            "by": self.principal.subject,
            "scopes": sorted(self.principal.scopes),
            "remote": self.remote,
            "since": iso(self.since_msc),
            "subscriptions": self.subscriptions.data(),
            "waiting": len(self.queue),
            "sent": self.queue.stats.sent,
            "sent_bytes": self.queue.stats.sent_bytes,
            "conflated": self.queue.stats.conflated,
            "received": self.stats.received,
            "refused": self.stats.refused,
            "invalid": self.stats.invalid,
        }
