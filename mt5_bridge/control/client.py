"""The WebSocket client: keeps one connection to the backend, and finds its own way back.

Frames in are handed over synchronously from the receive loop, so that an emergency stop is latched before anything
that is queued. Frames out wait in `outbound`. When to try again is decided in `pacing`.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from loguru import logger
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.uri import parse_uri

from mt5_bridge.control.config import ChannelState, ControlConfig, ControlStats, whereabouts
from mt5_bridge.control.dial import dial, goodbye, hang_up
from mt5_bridge.control.life import Life
from mt5_bridge.control.outbound import Outbound, Parcel
from mt5_bridge.control.pacing import Pace, retry_after_seconds
from mt5_bridge.control.security import Credentials, why_unreachable
from mt5_bridge.control.window import Window
from mt5_bridge.core.errors import ChannelClosedError
from mt5_bridge.core.reminder import Reminder

_STEADY_S = 10.0
"""A connection that ended younger is no news: it comes and goes."""
_BATCH_BYTES = 65_536
"""Of one go; an answer to a stop waits for no more than that."""
_FRAMES_PER_TURN = 32
"""Frames handed over before other tasks get the loop: a flood must not stall it."""


class ControlClient:
    """One connection to the backend, kept up for ever by `run()`.

    Args:
        config: address, token, bounds.
        hello: makes the first frame of each connection.
        on_frame: called from the receive loop with each text or binary frame; must be quick and must not raise.
        on_state: called with the new state and a detail for people, whenever it changes.
        credentials: asked before each connection, so that a token or certificate is replaced without a restart;
            None: those of `config` for ever. It must not raise.
        now_ms: UTC wall clock, ms.
        monotonic: seconds, for uptimes.
        random: uniform 0 to 1, for the jitter.

    Raises:
        ValueError: the address is no WebSocket address.
    """

    def __init__(
        self,
        config: ControlConfig,
        *,
        hello: Callable[[], bytes],
        on_frame: Callable[[bytes], None],
        on_state: Callable[[ChannelState, str], None] = lambda state, detail: None,
        credentials: Callable[[], Awaitable[Credentials]] | None = None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        try:
            self._secure = parse_uri(config.url).secure
        except InvalidURI as error:
            raise ValueError(f"no WebSocket address: {error.msg}") from None
        self._config = config
        self._where = whereabouts(config.url)
        self._hello = hello
        self._on_frame = on_frame
        self._on_state = on_state
        self._credentials = credentials
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._pace = Pace(random)
        self._outbound = Outbound(max_frames=config.max_frames, max_bytes=config.max_bytes)
        self._window = Window()
        self._socket: ClientConnection | None = None
        self._life: Life | None = None
        self._up = asyncio.Event()
        self._written = asyncio.Event()
        self._stopping = asyncio.Event()
        self._drain_timeout = 0.0
        self._news = Reminder()
        self._told_connected = False
        self._ended = asyncio.Event()
        self._ended.set()
        self.state = ChannelState.DISCONNECTED
        self.detail = "not started"
        self.last_seen_msc: int | None = None
        """UTC ms of the last frame or pong from the backend; None before the first."""
        self.stats = ControlStats(outbound=self._outbound.stats)

    @property
    def connected(self) -> bool:
        """True while there is a connection: what is sent now follows `hello`."""
        return self._socket is not None

    async def wait_connected(self) -> None:
        """Return when there is a connection."""
        await self._up.wait()

    def send(self, frame: bytes, *, urgent: bool = False, brief: bool = False) -> bool:
        """Queue a frame, in order. False when there is no connection or too much waits already.

        Args:
            frame: one JSON message.
            urgent: overtakes everything that waits; for answers to an emergency stop.
            brief: a few words that find room when all else is full; for answers that say so.
        """
        if self._socket is None:
            self._outbound.stats.refused += 1
            return False
        self._written.clear()
        return self._outbound.put(Parcel(frame), urgent=urgent, brief=brief)

    def send_latest(self, slot: str, frame: bytes) -> None:
        """Keep the newest frame of the slot and send it when its turn comes, be it after a reconnect."""
        self._outbound.put_latest(slot, frame)

    async def send_confirmed(self, frame: bytes) -> None:
        """Send in order and return when the backend answered a ping sent after the frame.

        Raises:
            ChannelClosedError: no connection, too much waits, the connection ended, or no sign of life for 5 s (the
                connection is then given up). The frame may have arrived all the same.
        """
        await self.send_run_confirmed((frame,))

    async def send_run_confirmed(self, frames: Sequence[bytes]) -> int:
        """`send_confirmed` for several frames, as many of them as there is room for.

        Returns:
            How many, from the first on, have arrived. The others were not sent.

        Raises:
            ChannelClosedError: as `send_confirmed`. Those sent may have arrived all the same.
        """
        socket, life = self._socket, self._life
        if socket is None or life is None:
            raise ChannelClosedError("the backend is not connected")
        last: Parcel | None = None
        count = 0
        for frame in frames:
            parcel = Parcel(frame)
            if not self._outbound.put(parcel):
                break
            last, count = parcel, count + 1
        if last is None:
            raise ChannelClosedError("too many frames wait for the backend")
        self._written.clear()
        # The lane is first in, first out: what has arrived has arrived with all before it.
        last.written = asyncio.get_running_loop().create_future()
        pong = await last.written
        try:
            await life.until(pong)
        except (TimeoutError, ConnectionClosed) as error:
            self.stats.unconfirmed += count
            socket.transport.abort()
            raise ChannelClosedError("the backend did not confirm the frame") from error
        return count

    async def run(self) -> None:
        """Connect, serve, come back; returns after `stop()`."""
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                await _within(self._pace.wait(self._monotonic()), self._stopping)
                if not self._stopping.is_set():
                    await _within(await self._attempt(), self._stopping)
        finally:
            self._ended.set()

    async def stop(self, timeout: float) -> None:
        """Send what waits, say goodbye, end `run()`; done within `timeout` seconds, whatever the backend does."""
        self._drain_timeout = timeout / 2
        self._stopping.set()
        await _within(timeout, self._ended)
        if self._socket is not None:
            self._socket.transport.abort()

    def _set_state(self, state: ChannelState, detail: str) -> None:
        changed = state is not self.state
        self.state, self.detail = state, detail
        if changed:
            self._on_state(state, detail)

    def _tell(self, event: str, text: str, *, level: str = "WARNING", **fields: object) -> None:
        """Logs what is news: a backend that is away would fill the log with every attempt."""
        if self._news.due(text, self._monotonic()):
            self._told_connected = False
            logger.bind(event=event, **fields).log(level, "{text}", text=text)

    async def _attempt(self) -> float:
        """One connection from first to last. Returns the seconds to wait before the next."""
        self._pace.started(self._monotonic())
        self.stats.attempts += 1
        if self.state is not ChannelState.REFUSED:
            self._set_state(ChannelState.CONNECTING, self._where)
        try:
            socket = await self._connect_unless_stopped()
        except InvalidStatus as error:
            return self._not_accepted(error)
        except (OSError, InvalidHandshake, UnicodeError, EOFError) as error:
            detail = why_unreachable(error, secure=self._secure)
            pause = self._pace.after_failure()
            self._tell("backend_unreachable", f"Backend not reachable: {detail}", retry_in=round(pause, 1))
            self._set_state(ChannelState.DISCONNECTED, detail)
            return pause
        return await self._serve(socket) if socket is not None else 0.0

    async def _connect_unless_stopped(self) -> ClientConnection | None:
        """The connection, or None when `stop()` came first."""
        connecting = asyncio.create_task(self._connect(), name="control-connect")
        stopped = asyncio.create_task(self._stopping.wait(), name="control-stopped")
        try:
            await asyncio.wait((connecting, stopped), return_when=asyncio.FIRST_COMPLETED)
            return connecting.result() if connecting.done() else None
        except asyncio.CancelledError:
            # It may have connected in the very moment of the cancellation: nobody else would close it.
            if connecting.done() and not connecting.cancelled() and connecting.exception() is None:
                connecting.result().transport.abort()
            raise
        finally:
            connecting.cancel()
            stopped.cancel()

    async def _connect(self) -> ClientConnection:
        known = self._config.credentials if self._credentials is None else await self._credentials()
        return await dial(self._config, known, secure=self._secure)

    def _not_accepted(self, error: InvalidStatus) -> float:
        status = error.response.status_code
        if status in (401, 403):
            pause = self._pace.after_refusal()
            self.stats.refusals += 1
            why = f"ERROR backend refuses the token (HTTP {status}): check BACKEND_AUTH_TOKEN"
            self._tell("backend_refused", why, level="ERROR", status=status, retry_in=pause)
            self._set_state(ChannelState.REFUSED, f"HTTP {status}: token not accepted")
            return pause
        if status in (429, 503):
            wanted = retry_after_seconds(error.response.headers.get("Retry-After"), self._now_ms())
            pause = self._pace.after_busy(wanted)
        else:
            pause = self._pace.after_failure()
        self._tell("backend_unavailable", f"Backend answers HTTP {status}", status=status, retry_in=round(pause, 1))
        self._set_state(ChannelState.DISCONNECTED, f"HTTP {status}")
        return pause

    async def _serve(self, socket: ClientConnection) -> float:
        began = self._monotonic()
        self.stats.connections += 1
        # From here on frames are queued; `hello` is written before the first of them.
        self._socket = socket
        self._life = life = Life(self._seen)
        self._window = Window()
        self._outbound.open_latest()
        self._up.set()
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [
                    # A server that accepts and never reads must not hold `hello` for ever: pings start before it.
                    group.create_task(self._keepalive(socket, life), name="control-keepalive"),
                    group.create_task(self._send_loop(socket, life), name="control-send"),
                    group.create_task(self._say_goodbye(socket), name="control-goodbye"),
                ]
                try:
                    await self._receive_loop(socket, life)
                finally:
                    for helper in helpers:
                        helper.cancel()
        finally:
            self._socket = self._life = None
            self._up.clear()
            self._written.set()
            self._outbound.connection_lost("the connection to the backend ended")
            await hang_up(socket)
        uptime = self._monotonic() - began
        detail = goodbye(socket)
        pause = self._pace.after_session(uptime)
        if uptime >= _STEADY_S:
            self._news.settled()
        self._tell("backend_disconnected", f"Backend connection ended: {detail}", uptime_s=round(uptime, 1))
        self._set_state(ChannelState.DISCONNECTED, detail)
        return pause

    async def _receive_loop(self, socket: ClientConnection, life: Life) -> None:
        in_turn = 0
        try:
            while True:
                frame = await socket.recv(decode=False)
                life.sign()
                self.stats.frames_in += 1
                self._on_frame(frame)
                in_turn += 1
                if in_turn >= _FRAMES_PER_TURN:
                    in_turn = 0
                    await asyncio.sleep(0)
        except ConnectionClosed:
            return

    async def _send_loop(self, socket: ClientConnection, life: Life) -> None:
        try:
            self._written.clear()
            await socket.send(self._hello(), text=True)
            if not self._told_connected:
                self._told_connected = True
                logger.bind(event="backend_connected", url=self._where).info("Backend connected")
            self._set_state(ChannelState.CONNECTED, self._where)
            while True:
                if self._outbound.ordered_empty:
                    self._written.set()
                await self._outbound.filled()
                await self._send_batch(socket, life, self._outbound.take(self._window.size, _BATCH_BYTES))
        except ConnectionClosed:
            return

    async def _send_batch(self, socket: ClientConnection, life: Life, batch: list[Parcel]) -> None:
        try:
            for parcel in batch:
                await socket.send(parcel.frame, text=True)
                self.stats.frames_out += 1
            waiting = [parcel.written for parcel in batch if parcel.written is not None]
            newest = any(parcel.latest for parcel in batch)
            if waiting or newest:
                if newest:
                    self._outbound.hold_latest()
                pong = asyncio.ensure_future(await socket.ping())
                pong.add_done_callback(partial(self._arrived, life))
                for written in waiting:
                    if not written.done():
                        written.set_result(pong)
        finally:
            # Those already told of their pong keep it; the others learn that they may not have arrived.
            for parcel in batch:
                parcel.fail("the connection to the backend ended")

    def _arrived(self, life: Life, pong: "asyncio.Future[float]") -> None:
        if not pong.cancelled() and pong.exception() is None:
            life.sign()
            self._window.answered(pong.result())
        self._outbound.open_latest()

    def _seen(self) -> None:
        self.last_seen_msc = self._now_ms()

    async def _say_goodbye(self, socket: ClientConnection) -> None:
        await self._stopping.wait()
        await _within(self._drain_timeout, self._written)
        await hang_up(socket)

    async def _keepalive(self, socket: ClientConnection, life: Life) -> None:
        """A silent link is cut without further wait."""
        try:
            await life.watch(socket)
        except TimeoutError:
            self.stats.half_open += 1
            self._tell("backend_silent", "Backend does not answer pings: connection given up")
            socket.transport.abort()
        except ConnectionClosed:
            return


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for the event, but no longer than so many seconds."""
    if seconds > 0:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
