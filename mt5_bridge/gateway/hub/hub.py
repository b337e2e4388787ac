"""The hub: its clients, and what the bridge tells given to each that wants it.

It listens to the bridge only while somebody has subscribed to something. What comes is put down in a moment (the tick
and the order path wait for nothing here) and given out by a task of its own, each frame made once for all clients.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from loguru import logger

from mt5_bridge.core.channels import Channel
from mt5_bridge.core.times import iso
from mt5_bridge.gateway.auth import Principal
from mt5_bridge.gateway.hub import frames, rights
from mt5_bridge.gateway.hub.client import Client, Close, Peer, Share
from mt5_bridge.gateway.hub.subscriptions import Subscriptions, ordered
from mt5_bridge.gateway.port import BridgePort

MAX_EVENTS = 10_000
"""Events that may wait to be given out: so many in one turn of the loop are more than any client could be told."""
_PER_TURN = 128
"""Clients served before the loop may do something else: about 2 ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubConfig:
    """How the hub is run.

    Attributes:
        service: as `welcome` names it.
        version: of the bridge.
        bridge_id: BRIDGE_ID.
        max_connections: MAX_CONNECTIONS.
        messages_per_s: RATE_LIMIT_MESSAGES, of each client.
        heartbeat_s: HEARTBEAT_INTERVAL.
        auth_s: how long a client may take to send its `auth` frame.
    """

    service: str = "mt5-bridge"
    version: str
    bridge_id: str
    max_connections: int = 100
    messages_per_s: float = 100.0
    heartbeat_s: float = 5.0
    auth_s: float = 5.0


@dataclass(slots=True)
class HubStats:
    """Counters since the start; those of clients that have left are in them."""

    connected: int = 0
    peak: int = 0
    turned_away: int = 0
    unauthorized: int = 0
    dropped: int = 0
    received: int = 0
    refused: int = 0
    invalid: int = 0
    sent: int = 0
    sent_bytes: int = 0
    conflated: int = 0
    events: int = 0
    frames: int = 0
    broadcasts: int = 0
    processed: dict[str, int] = field(default_factory=lambda: {"account_info": 0, "tick_data": 0})
    """Clients' own messages that were acknowledged, by type."""


class Hub:
    """Clients and what they are told.

    Args:
        port: the bridge.
        config: how it is run.
        now_ms: UTC ms.
        monotonic: seconds.
    """

    def __init__(
        self,
        port: BridgePort,
        config: HubConfig,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.stats = HubStats()
        self.now_ms = now_ms
        self.monotonic = monotonic
        self._port = port
        self._clients: dict[int, Client] = {}
        self._waiting = 0
        self._number = 0
        self._began = monotonic()
        self._unlisten: Callable[[], None] | None = None
        self._events: list[bytes] = []
        self._overrun = False
        self._latest: dict[tuple[Channel, str], bytes] = {}
        self._picture: dict[tuple[Channel, str], bytes] = {}
        self._wake = asyncio.Event()

    # --- clients

    @property
    def clients(self) -> tuple[Client, ...]:
        """Those connected."""
        return tuple(self._clients.values())

    @property
    def full(self) -> bool:
        """Whether there is no place for one more; those that have yet to show who they are take none from others."""
        return len(self._clients) >= self.config.max_connections

    @property
    def crowded(self) -> bool:
        """Whether too many have yet to show who they are."""
        return self._waiting >= self.config.max_connections

    def knocks(self) -> None:
        """Somebody has yet to show who it is."""
        self._waiting += 1

    def knocked(self) -> None:
        """It has, or is gone."""
        self._waiting -= 1

    def join(self, peer: Peer, principal: Principal, remote: str) -> Client:
        """A client that has shown who it is."""
        self._number += 1
        client = Client(
            self._number,
            peer,
            principal,
            remote=remote,
            per_s=self.config.messages_per_s,
            now=self.monotonic(),
            now_ms=self.now_ms(),
        )
        self._clients[client.number] = client
        self.stats.connected += 1
        self.stats.peak = max(self.stats.peak, len(self._clients))
        return client

    def leave(self, client: Client) -> None:
        """It is gone."""
        del self._clients[client.number]
        stats, queue = self.stats, client.queue.stats
        stats.dropped += client.dropped
        stats.received += client.stats.received
        stats.refused += client.stats.refused
        stats.invalid += client.stats.invalid
        stats.sent += queue.sent
        stats.sent_bytes += queue.sent_bytes
        stats.conflated += queue.conflated
        self._listen_or_not()

    def welcome(self, client: Client) -> None:
        """The first thing a client hears: where it is, and what it may do."""
        status = self._port.status()
        account = status.get("account")
        data = {
            "service": self.config.service,
            "version": self.config.version,
            "bridge_id": self.config.bridge_id,
            "account": None if account is None else int(account),
            "symbols": status.get("symbols", []),
            "capabilities": rights.capabilities(client.principal.scopes),
            "scopes": sorted(client.principal.scopes),
            "halt": status.get("halt_detail"),
            "channels": ordered(Channel),
            "subscriptions": client.subscriptions.data(),
            "heartbeat_s": self.config.heartbeat_s,
            "messages_per_s": self.config.messages_per_s,
        }
        client.send(frames.message("welcome", data, now_msc=self.now_ms()))

    # --- subscriptions

    def subscribe(self, client: Client, new: Subscriptions) -> None:
        """Change what a client hears; of what is new to it, it gets the picture as it stands."""
        old, client.subscriptions = client.subscriptions, new
        for channel in Channel:
            if channel not in new.channels:
                client.queue.forget(channel)
        for channel, slot in self._picture:
            if channel is Channel.TICKS and old.wants(channel, slot) and not new.wants(channel, slot):
                client.queue.forget(channel, slot)
        self._listen_or_not()
        known = [(channel, slot, frame) for (channel, slot), frame in self._picture.items()]
        client.give(Share(new, (), [each for each in known if not old.wants(*each[:2])]))

    def _listen_or_not(self) -> None:
        wanted = any(client.subscriptions.channels for client in self._clients.values())
        if wanted and self._unlisten is None:
            self._unlisten = self._port.listen(self._on_frame)
        elif not wanted and self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
            self._events.clear()
            self._latest.clear()
            self._picture.clear()

    # --- what the bridge tells

    def _on_frame(self, channel: Channel, slot: str, frame: bytes) -> None:
        """From the bridge's own paths: nothing is done here but putting it down."""
        if channel is Channel.EVENTS:
            if len(self._events) < MAX_EVENTS:
                self._events.append(frame)
            else:
                self._overrun = True
        else:
            self._latest[channel, slot] = frame
        self._wake.set()

    async def run(self) -> None:
        """Give out what the bridge tells, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            told, self._events = self._events, []
            newest, self._latest = self._latest, {}
            events = [frames.framed(frame) for frame in told]
            latest = [(channel, slot, frames.framed(frame)) for (channel, slot), frame in newest.items()]
            self._picture.update({(channel, slot): frame for channel, slot, frame in latest})
            self.stats.events += len(events)
            self.stats.frames += len(latest)
            lost, self._overrun = self._overrun, False
            shares: dict[Subscriptions, Share] = {}
            for number, client in enumerate(self.clients, 1):
                wanted = client.subscriptions
                if lost and Channel.EVENTS in wanted.channels:
                    client.drop(Close.TOO_SLOW, "more events than could be given out")
                share = shares.get(wanted)
                if share is None:
                    share = shares[wanted] = Share(wanted, events, latest)
                client.give(share)
                if number % _PER_TURN == 0:
                    await asyncio.sleep(0)

    def broadcast(self, by: str, message: Any) -> int:
        """Tell every client what somebody says; to how many."""
        self.stats.broadcasts += 1
        frame = frames.message("broadcast", {"by": by, "message": message}, now_msc=self.now_ms())
        for client in self.clients:
            client.send(frame)
        logger.bind(event="broadcast", by=by).info("Broadcast by {by} to {n} clients", by=by, n=len(self._clients))
        return len(self._clients)

    # --- how it is

    def totals(self) -> dict[str, int]:
        """The counters, with those of the clients connected now."""
        found = asdict(self.stats)
        found |= {f"{type}_processed": count for type, count in found.pop("processed").items()}
        for client in self._clients.values():
            queue = client.queue.stats
            for name, more in (
                ("received", client.stats.received),
                ("refused", client.stats.refused),
                ("invalid", client.stats.invalid),
                ("sent", queue.sent),
                ("sent_bytes", queue.sent_bytes),
                ("conflated", queue.conflated),
            ):
                found[name] += more
        return found

    def status(self) -> dict[str, Any]:
        """The hub's statistics."""
        by_channel = {
            channel.value: sum(channel in client.subscriptions.channels for client in self._clients.values())
            for channel in Channel
        }
        return {
            "active": len(self._clients),
            "max": self.config.max_connections,
            "unauthenticated": self._waiting,
            "uptime_s": round(self.monotonic() - self._began, 1),
            "listening": self._unlisten is not None,
            "subscriptions": by_channel,
            "totals": self.totals(),
            "clients": [client.data() for client in self._clients.values()],
        }

    def health(self) -> dict[str, Any]:
        """Whether it can take one more."""
        return {
            "status": "full" if self.full else "healthy",
            "active": len(self._clients),
            "max": self.config.max_connections,
            "waiting": sum(len(client.queue) for client in self._clients.values()),
            "timestamp": iso(self.now_ms()),
        }

    def close(self) -> None:
        """Hear no more of the bridge."""
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
