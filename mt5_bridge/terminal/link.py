"""The live session with a terminal: opened, watched, opened again. Nothing here is ever around `order_send`."""

import asyncio
import contextlib
import random as _random
import time
from collections.abc import Callable
from typing import Any

from loguru import logger
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_delay, stop_never

from mt5_bridge.core import backoff
from mt5_bridge.core.errors import (
    MT5AuthError,
    MT5CircuitBreakerOpen,
    MT5ConnectionError,
    MT5Error,
    MT5InitError,
    MT5StateError,
    MT5TimeoutError,
)
from mt5_bridge.terminal.breaker import CircuitBreaker
from mt5_bridge.terminal.client import HostClient, decode
from mt5_bridge.terminal.config import TerminalConfig
from mt5_bridge.terminal.failures import breaks_connection
from mt5_bridge.terminal.port import Priority, StateCallback, TerminalState, TerminalStats
from mt5_bridge.terminal.raw import ConnectArgs, OpenArgs, RawAccount

_BEATS = 4
"""Signs of life in the time after which a silent daemon counts as dead."""


def wall_ms() -> int:
    """UTC now in ms."""
    return time.time_ns() // 1_000_000


async def open_session(client: HostClient, config: TerminalConfig, role: str) -> RawAccount:
    """Start a host where none runs, give it its terminal, and log in.

    Args:
        client: whose host it is.
        config: the session's settings.
        role: `live` or `history`.

    Returns:
        The account that answered, as compared with the wanted one.

    Raises:
        MT5Error: whatever stood in the way.
    """
    if not client.alive:
        await client.start()
    if not client.opened:
        alone = role != "live"  # the past has nothing to guard
        opening = OpenArgs(
            config.backend,
            role,
            config.settings,
            None if alone else config.lock,
            None if alone else config.deadman,
        )
        await client.call("open", opening, priority=Priority.CRITICAL, timeout=30.0)
        client.opened = True
    args = ConnectArgs(
        config.path, config.login, config.password, config.server, config.init_timeout_ms, config.portable
    )
    answer = await client.call("connect", args, priority=Priority.CRITICAL, timeout=config.connect_timeout)
    account: RawAccount = decode(answer, RawAccount)
    if config.server is not None and account.server != config.server:
        raise MT5AuthError(f"the terminal is logged in at {account.server}, not at {config.server}")
    if config.login is not None and account.login != config.login:
        raise MT5AuthError(f"the terminal is logged in to {account.login}, not to {config.login}")
    return account


def _beat_s(config: TerminalConfig) -> float | None:
    silence = None if config.deadman is None else config.deadman.after_s
    return None if silence is None else silence / _BEATS


class Link:
    """Keeps one host connected to one account.

    Args:
        config: the session's settings.
        now_ms: UTC wall clock in ms.
        monotonic: seconds.
        random: uniform in [0, 1), the jitter.

    Attributes:
        state: where the connection stands; `detail` says why in words, `since_msc` since when.
        stats: counters.
        breaker: asked before every call.
        login: the account held on to, known after the first connect.
        server: its server.
    """

    def __init__(
        self,
        config: TerminalConfig,
        *,
        now_ms: Callable[[], int] = wall_ms,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self.config = config
        self.state = TerminalState.DISCONNECTED
        self.detail = ""
        self.since_msc = now_ms()
        self.stats = TerminalStats()
        self.breaker = CircuitBreaker(threshold=config.breaker_threshold, cooldown=config.breaker_cooldown)
        self.login = config.login
        self.server = config.server
        self.client = HostClient(
            self.stats,
            self._host_died,
            preempt_after=None if config.history_host else config.preempt_after,
            python_path=config.python_path,
            backend=config.backend,
            beat_s=_beat_s(config),
        )
        self._now_ms = now_ms
        self._monotonic = monotonic
        self._random = random
        self._callbacks: list[StateCallback] = []
        self._lost = asyncio.Event()
        self._opening = asyncio.Lock()
        self._supervisor: asyncio.Task[None] | None = None
        self._backoff = backoff.Backoff(config.backoff)
        self._connected_at = 0.0
        self._was_connected = False

    def on_state(self, callback: StateCallback) -> None:
        """Tell `callback(state, detail)` of every change, at once and synchronously."""
        self._callbacks.append(callback)

    def _become(self, state: TerminalState, detail: str = "") -> None:
        if (state, detail) == (self.state, self.detail):
            return
        if state is not self.state:
            self.since_msc = self._now_ms()
        self.state, self.detail = state, detail
        bound = logger.bind(event="terminal_state", state=state.value, detail=detail)
        bound.info("Terminal {state}{detail}", state=state.value, detail=f": {detail}" if detail else "")
        for callback in self._callbacks:
            callback(state, detail)

    async def warm_up(self) -> None:
        """Start the host, nothing more: it loads what it will need while the caller does other things."""
        # What keeps it from starting will keep `connect` from it, too, and be told there.
        with contextlib.suppress(MT5ConnectionError):
            await self.client.start()

    async def connect(self, *, max_wait: float | None = None) -> None:
        """Connect, and stay connected until `disconnect`.

        Args:
            max_wait: seconds to go on trying while the terminal is merely not there yet; None: for ever.

        Raises:
            MT5InitError: the terminal cannot be had (-10003, -5); no retry mends it.
            MT5AuthError: the account cannot be had (-6, -7); it is not tried again.
            MT5Error: still not there after `max_wait`.
        """
        async with self._opening:
            if self._supervisor is None or self._supervisor.done():
                await self._open(max_wait)
                self._supervisor = asyncio.create_task(self._supervise(), name="terminal-supervisor")
                self._supervisor.add_done_callback(self._supervisor_ended)

    async def disconnect(self, *, bye: bool = True, timeout: float = 2.0) -> None:
        """End the session and its host. Bounded; safe to call twice.

        Args:
            bye: whether the end is in order; without it the host does what it is to do when the daemon dies.
            timeout: seconds the host may take.
        """
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.wait([supervisor])
        await self.client.stop(timeout, bye=bye)
        self._become(TerminalState.DISCONNECTED, "closed")

    async def reconnect(self, *, max_wait: float | None = None) -> None:
        """A person's word: begin anew with a fresh host, also after FAILED."""
        await self.disconnect()
        self.breaker.reset()
        self.stats.reconnects += 1
        await self.connect(max_wait=max_wait)

    async def _open(self, max_wait: float | None) -> None:
        """Open the session, trying again while that can help.

        Raises:
            MT5Error: it cannot help, or `max_wait` is over.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception(self._may_retry),
            wait=self._pause,
            stop=stop_never if max_wait is None else stop_after_delay(max_wait),
            before_sleep=self._note_failure,
            reraise=True,
        )
        try:
            await retrying(self._open_once)
        except MT5Error as error:
            state = TerminalState.DISCONNECTED if self._may_retry(error) else TerminalState.FAILED
            await self.client.stop()
            self._become(state, str(error))
            raise

    async def _open_once(self) -> None:
        if self.state is not TerminalState.CONNECTING:
            self._become(TerminalState.CONNECTING)
        self._lost.clear()
        account = await open_session(self.client, self.config, "live")
        if (self.login or account.login, self.server or account.server) != (account.login, account.server):
            raise MT5AuthError(f"another account is open in the terminal: {account.login} at {account.server}")
        self.login, self.server = account.login, account.server
        self._connected_at = self._monotonic()
        self._was_connected = True
        self._become(TerminalState.CONNECTED)
        if (deadman := self.config.deadman) is not None:
            logger.bind(event="deadman_armed", action=deadman.action, after_s=deadman.after_s).info(
                "Dead-man's switch armed: {action} when this process dies{silent}",
                action=deadman.action,
                silent="" if deadman.after_s is None else f" or is silent for {deadman.after_s:g} s",
            )

    def _may_retry(self, error: BaseException) -> bool:
        if isinstance(error, MT5InitError):
            # At the first start path, bitness or version are wrong; later the terminal is being updated or restarted.
            return self._was_connected and error.code is not None
        return isinstance(error, MT5Error) and not isinstance(error, MT5AuthError)

    def _pause(self, attempt: RetryCallState) -> float:
        failures = self._backoff.failures + attempt.attempt_number
        return backoff.delay(self.config.backoff, failures, self._random())

    def _note_failure(self, attempt: RetryCallState) -> None:
        outcome = attempt.outcome
        self._become(TerminalState.CONNECTING, str(outcome.exception()) if outcome is not None else "")

    async def _supervise(self) -> None:
        """Connect again whenever the connection is lost, until a person is needed."""
        while self.state is not TerminalState.FAILED:
            await self._lost.wait()
            self._backoff = self._backoff.ended(self._monotonic() - self._connected_at)
            if self._backoff.failures > 1:
                await asyncio.sleep(self._backoff.delay(self._random()))
            self.stats.reconnects += 1
            try:
                await self._open(None)
            except MT5Error as error:
                logger.bind(event="terminal_failed", code=error.code).error("Terminal given up: {error}", error=error)

    def _supervisor_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (defect := task.exception()) is not None:
            logger.opt(exception=defect).bind(event="defect").error("The terminal's supervisor ended: a defect")
            self._become(TerminalState.FAILED, f"defect: {defect}")

    def _connection_lost(self, reason: str) -> None:
        if self.state is TerminalState.CONNECTED:
            self._become(TerminalState.DISCONNECTED, reason)
            self.client.fail_waiting(reason)
            self._lost.set()

    def _host_died(self, reason: str) -> None:
        logger.bind(event="host_died", reason=reason).warning("Terminal host gone: {reason}", reason=reason)
        self._connection_lost(reason)

    def kill_host(self, reason: str) -> None:
        """Kill the host now. The call in flight fails as sent, the waiting ones as not sent; it is respawned."""
        self.client.kill(reason)

    async def call(
        self,
        op: str,
        *args: Any,
        result: Any,
        priority: Priority,
        timeout: float,
        on_sent: Callable[[], None] | None = None,
        may_go: Callable[[], bool] | None = None,
        taken_back: Callable[[], bool] | None = None,
    ) -> Any:
        """One operation of the host, decoded as `result`.

        Raises:
            MT5StateError: not connected.
            MT5CircuitBreakerOpen: refused by the breaker.
            MT5Error: what the terminal or its host did.
        """
        if self.state is not TerminalState.CONNECTED:
            raise MT5StateError(f"the terminal is {self.state.value}{f': {self.detail}' if self.detail else ''}")
        now = self._monotonic()
        if not self.breaker.admit(now, critical=priority is Priority.CRITICAL):
            wait = self.breaker.retry_in(now)
            raise MT5CircuitBreakerOpen(f"the terminal failed repeatedly; next try in {wait:.1f} s")
        try:
            raw = await self.client.call(
                op, *args, priority=priority, timeout=timeout, on_sent=on_sent, may_go=may_go, taken_back=taken_back
            )
        except MT5Error as error:
            self._judge(error)
            raise
        except asyncio.CancelledError:
            self.breaker.withdrawn()
            raise
        self.breaker.succeeded()
        return decode(raw, result)

    def _judge(self, error: MT5Error) -> None:
        """What a failed call says of the terminal."""
        self.stats.failures += 1
        broken = breaks_connection(error)
        if broken or (isinstance(error, MT5TimeoutError | MT5ConnectionError) and error.sent):
            self.breaker.failed(self._monotonic())
            self.stats.breaker_trips = self.breaker.trips
        elif isinstance(error, MT5TimeoutError | MT5ConnectionError | MT5StateError) and error.code is None:
            self.breaker.withdrawn()
        else:
            self.breaker.succeeded()
        if broken or isinstance(error, MT5AuthError):
            self._connection_lost(str(error))
