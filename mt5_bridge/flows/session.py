"""The session with the terminal, ended and begun on a person's word: `POST /connect` and `/disconnect`.

Ending it ends the terminal's host: no tick, no order, no stop moved until somebody connects again, which an emergency
stop with something to close does by itself. While an order is on its way or unknown the session is not touched.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from loguru import logger

from mt5_bridge.core.errors import JournalError, MT5AuthError, MT5Error, MT5InitError
from mt5_bridge.flows.answers import Refusal
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.emergency import Emergency
from mt5_bridge.flows.lanes import Lanes
from mt5_bridge.flows.orders import OrderDesk
from mt5_bridge.flows.protect import StopGuard
from mt5_bridge.journal.journal import Journal
from mt5_bridge.terminal.port import Terminal, TerminalState

CONNECT_S = 30.0
"""How long who connects waits for it; it is gone on with afterwards."""
RECONCILE_S = 10.0
"""And then for journal and terminal to agree."""
QUIET_S = 3.0
"""How long an order that is being filled just now is waited for."""
_LOOK_S = 0.05


class Credentials(NamedTuple):
    """Which account; None: not said, or not known."""

    login: int | None
    server: str | None
    password: str | None


@dataclass(frozen=True)
class Rules:
    """What a person may do from afar.

    Attributes:
        ours: the account as settings and terminal know it now.
        other_account: GATEWAY_ALLOW_CONNECT.
        last_words: tells what is left to tell of this account, before nothing may be on its way.
        switch: goes over to another account, tried before; raises `MT5Error` where it cannot be had.
    """

    ours: Callable[[], Credentials]
    other_account: bool
    last_words: Callable[[], Awaitable[None]]
    switch: Callable[[Credentials], Awaitable[None]]


class Session:
    """Ends and begins the session."""

    def __init__(
        self,
        terminal: Terminal,
        journal: Journal,
        book: Book,
        desk: OrderDesk,
        lanes: Lanes,
        guard: StopGuard,
        emergency: Emergency,
        rules: Rules,
    ) -> None:
        self._terminal = terminal
        self._journal = journal
        self._book = book
        self._desk = desk
        self._lanes = lanes
        self._guard = guard
        self._emergency = emergency
        self._rules = rules
        self._busy = False
        self._ended = False
        """On a person's word: nothing connects by itself."""
        self._connecting: asyncio.Task[None] | None = None
        emergency.on_flatten(self._needed)

    async def connect(self, wanted: Credentials) -> dict[str, Any]:
        """Begin the session where there is none, or go over to another account.

        Raises:
            Refusal: another account without leave; an order is not settled; the terminal or the broker refuses.
        """
        with self._alone():
            if not _same(wanted, self._rules.ours()):
                return await self._go_over(wanted)
            if self._terminal.state is TerminalState.CONNECTED:
                return self._told("it was connected already")
            await self._open()
            return self._told("connected")

    async def disconnect(self) -> dict[str, Any]:
        """End the session until somebody connects.

        Raises:
            Refusal: an order is not settled, or the terminal is not connected.
        """
        with self._alone():
            if self._ended and self._terminal.state is TerminalState.DISCONNECTED:
                return self._told("it was disconnected already")
            if self._terminal.state is not TerminalState.CONNECTED:
                raise Refusal("not_connected", f"the terminal is {self._terminal.state.value}: {self._terminal.detail}")
            await self._quiet()
            self._ended = True
            # Before anything waits: what comes in from now on is not begun.
            self._book.lost_connection()
            await self._terminal.disconnect()
            logger.bind(event="session_ended").warning("The session with the terminal is ended on a person's word")
            return self._told("disconnected: nothing trades until somebody connects")

    async def close(self) -> None:
        """Wait for nothing any more."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._busy:
            raise Refusal("in_progress", "somebody else connects or disconnects just now")
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    async def _go_over(self, wanted: Credentials) -> dict[str, Any]:
        if not self._rules.other_account:
            raise Refusal(
                "other_account",
                "this bridge trades another account, and GATEWAY_ALLOW_CONNECT does not allow to change it",
            )
        if wanted.login is None:
            raise Refusal("invalid_params", "another account needs its login")
        await self._rules.last_words()
        await self._quiet()
        self._book.lost_connection()
        try:
            await self._rules.switch(wanted)
        except MT5Error as error:
            await self._open()
            raise _refused(error) from error
        return {
            "connected": False,
            "account": wanted.login,
            "server": wanted.server,
            "detail": "the login was tried and works: the bridge begins anew with this account",
            "begins_anew": True,
        }

    async def _quiet(self) -> None:
        """Nothing may be on its way to the market, nor unknown, nor still to be protected or closed.

        Raises:
            Refusal: something is, and goes on to be.
        """
        until = asyncio.get_running_loop().time() + QUIET_S
        while (busy := await self._busy_with()) is not None:
            if asyncio.get_running_loop().time() > until:
                raise Refusal("open_intents", f"{busy}: wait for it")
            await asyncio.sleep(_LOOK_S)

    async def _busy_with(self) -> str | None:
        """What is under way; what it says is true in the same turn of the loop."""
        try:
            stored = await self._journal.open_intents()
        except JournalError as error:
            raise Refusal("journal_unavailable", str(error)) from error
        if stored or self._desk.flying or self._desk.unresolved:
            return "an order is on its way or its outcome is unknown"
        if self._lanes.busy or self._guard.busy:
            return "a signal is being worked on"
        return "a stop has not closed everything yet" if self._emergency.unfinished else None

    async def _open(self) -> None:
        if self._terminal.state is TerminalState.CONNECTING:
            raise Refusal("in_progress", f"the terminal is being connected already: {self._terminal.detail}")
        task = self._begin()
        done, _ = await asyncio.wait([task], timeout=CONNECT_S)
        if not done:
            raise Refusal("terminal_unavailable", f"not connected yet, it goes on trying: {self._terminal.detail}")
        try:
            task.result()
        except MT5Error as error:
            raise _refused(error) from error
        try:
            async with asyncio.timeout(RECONCILE_S):
                await self._book.reconciled.wait()
        except TimeoutError:
            logger.bind(event="reconcile_waits").warning("Connected; journal and terminal do not agree yet")

    def _begin(self) -> "asyncio.Task[None]":
        self._ended = False
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._terminal.reconnect(), name="session-connect")
            self._connecting.add_done_callback(_seen)
        return self._connecting

    def _needed(self) -> None:
        """A stop has something to close: it must reach the terminal."""
        if self._ended:
            logger.bind(event="session_needed").warning("The session with the terminal begins again: a stop needs it")
            self._begin()

    def _told(self, detail: str) -> dict[str, Any]:
        ours = self._rules.ours()
        connected = self._terminal.state is TerminalState.CONNECTED
        return {"connected": connected, "account": ours.login, "server": ours.server, "detail": detail}


def _seen(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.bind(event="session_refused").error("ERROR the terminal cannot be connected: {error}", error=error)


def _same(wanted: Credentials, ours: Credentials) -> bool:
    """Whether it is the account we have; a password says otherwise only where ours is known and another."""
    if wanted.login is not None and wanted.login != ours.login:
        return False
    if wanted.server is not None and ours.server is not None and wanted.server != ours.server:
        return False
    if wanted.password is None or ours.password is None:
        return True
    return hmac.compare_digest(wanted.password.encode(), ours.password.encode())


def _refused(error: MT5Error) -> Refusal:
    code = "login_refused" if isinstance(error, MT5AuthError | MT5InitError) else "terminal_unavailable"
    return Refusal(code, str(error))
