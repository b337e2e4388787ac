"""What the bridge tells its backend, told to others as well: the gateway's clients.

While nobody listens, ticks and events pass nothing here. Who listens is called at once, in the tick's or the order's
own path: a listener puts the message down, and does what takes time elsewhere.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from mt5_bridge.core import wire
from mt5_bridge.core.channels import Channel, Listener
from mt5_bridge.core.messages import account_message, position_message
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.outbox import Outbox
from mt5_bridge.flows.tick_feed import TickStream

_TICK = "tick:"
_CHANNELS = {"account_info": Channel.ACCOUNT, "positions": Channel.POSITIONS, "heartbeat": Channel.HEALTH}


class Ticks(Protocol):
    """What this needs of the tick flow."""

    def stream_to(self, stream: TickStream | None) -> None: ...

    def quoted(self) -> Iterable[tuple[str, bytes]]: ...


class _Both:
    """Ticks to the backend in standard mode, and to the listeners."""

    def __init__(self, backend: TickStream | None, tell: Callable[[str, bytes], None]) -> None:
        self._backend = backend
        self._tell = tell

    def send_latest(self, slot: str, frame: bytes) -> None:
        if self._backend is not None:
            self._backend.send_latest(slot, frame)
        self._tell(slot, frame)


class Fanout:
    """Stands where the WebSocket client stands for whoever tells the newest state of something.

    Args:
        backend: the WebSocket client; None without a backend.
    """

    def __init__(self, backend: TickStream | None) -> None:
        self._backend = backend
        self._listeners: dict[object, Listener] = {}

    def attach(
        self,
        *,
        ticks: Ticks,
        ticks_to_backend: bool,
        outbox: Outbox,
        book: Book,
        clock: Clock,
        health: Callable[[], dict[str, Any]],
    ) -> None:
        """Where what is told comes from.

        Args:
            ticks: streams ticks, and knows the last prices.
            ticks_to_backend: they go to the backend as well: standard mode.
            outbox: commits events.
            book: the account.
            clock: time.
            health: the `data` of a heartbeat.
        """
        self._ticks = ticks
        self._tick_stream = self._backend if ticks_to_backend else None
        self._outbox = outbox
        self._book = book
        self._clock = clock
        self._health = health

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call a listener with everything told from now on, beginning with the state as it is.

        Returns:
            What ends it; calling it again does nothing.
        """
        key = object()
        self._listeners[key] = listener
        if len(self._listeners) == 1:
            self._ticks.stream_to(_Both(self._tick_stream, self._tell))
            self._outbox.hear(self._event)
        for channel, slot, frame in self._picture():
            listener(channel, slot, frame)

        def end() -> None:
            if self._listeners.pop(key, None) is not None and not self._listeners:
                self._ticks.stream_to(self._tick_stream)
                self._outbox.hear(None)

        return end

    def send_latest(self, slot: str, frame: bytes, *, whole: bytes | None = None) -> None:
        """Tell the newest state of something, to the backend too.

        Args:
            slot: of what.
            frame: as the backend gets it.
            whole: as the others get it, where the backend gets a part.
        """
        if self._backend is not None:
            self._backend.send_latest(slot, frame)
        self._tell(slot, whole or frame)

    def channel(self, name: str, message: Any) -> None:
        """The state of a channel has changed: the backend reads it in the heartbeat."""
        if self._listeners:
            frame = wire.encode("connection_status", message, now_msc=self._clock.now_ms())
            self._each(Channel.HEALTH, f"connection_status:{name}", frame)

    def _tell(self, slot: str, frame: bytes) -> None:
        if slot.startswith(_TICK):
            self._each(Channel.TICKS, slot[len(_TICK) :], frame)
        elif slot in _CHANNELS:
            self._each(_CHANNELS[slot], slot, frame)

    def _event(self, payload: bytes) -> None:
        self._each(Channel.EVENTS, "", payload)

    def _each(self, channel: Channel, slot: str, frame: bytes) -> None:
        for listener in tuple(self._listeners.values()):
            listener(channel, slot, frame)

    def _picture(self) -> Iterable[tuple[Channel, str, bytes]]:
        now, book = self._clock.now_ms(), self._book
        for symbol, frame in self._ticks.quoted():
            yield Channel.TICKS, symbol, frame
        if book.account is not None:
            frame = wire.encode("account_info", account_message(book.account), now_msc=now)
            yield Channel.ACCOUNT, "account_info", frame
        if book.reconciled.is_set():
            held = [position_message(position) for position in book.positions.values()]
            yield Channel.POSITIONS, "positions", wire.encode("positions", held, now_msc=now)
        yield Channel.HEALTH, "heartbeat", wire.encode("heartbeat", self._health(), now_msc=now)
