"""One running bridge: its rooms opened in order, its flows as named tasks, its ordered end."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
from loguru import logger

from mt5_bridge.app import rooms
from mt5_bridge.app.accounts import AccountNote, other_account, try_account
from mt5_bridge.app.renewal import Renewal, Reread
from mt5_bridge.app.report import hello, status
from mt5_bridge.control.client import ControlClient
from mt5_bridge.core.decision import Limits
from mt5_bridge.core.errors import InstanceError, JournalError, MT5AuthError, MT5Error, MT5InitError
from mt5_bridge.core.figures import Figures
from mt5_bridge.core.halt import HaltState, Origin
from mt5_bridge.core.messages import ConnectionStatus
from mt5_bridge.core.model import AccountInfo
from mt5_bridge.core.times import iso
from mt5_bridge.flows.assembly import Flows, Surroundings
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.door import Door
from mt5_bridge.flows.latch import LastHalt, last_halt
from mt5_bridge.flows.memos import recalled
from mt5_bridge.flows.outbox import REDPANDA, WEBSOCKET
from mt5_bridge.flows.session import Credentials, Rules, Session
from mt5_bridge.flows.watch import DAY_MEMO
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.lock import InstanceLock, account_lock_path
from mt5_bridge.settings import Settings
from mt5_bridge.terminal.clock import Segment
from mt5_bridge.terminal.port import TerminalState
from mt5_bridge.terminal.session import MT5SessionManager

if TYPE_CHECKING:
    from mt5_bridge.app.broker import BrokerSide
    from mt5_bridge.gateway.server import GatewayServer

    Opening = Callable[..., Awaitable[GatewayServer]]

JOURNAL_FILE = "journal.db"
CLOCK_MEMO = "clock"
_FLUSH_S = 1.0
_STOP_CHANNEL_S = 1.0
_STOP_TERMINAL_S = 2.0
_SEE_OFF_S = 1.0
_DEADMAN_S = 75.0
"""After a defect the host has a minute to act by itself."""
_STOP_JOURNAL_S = 2.0
_STOP_WRITES_S = 1.5
_ASK_AGAIN_S = 1.0
_LAST_WORDS_S = 2.0


class Bridge:
    """Joins a terminal to a backend until `request_stop`.

    Args:
        settings: what the bridge was told.
        clock: time.
        terminal: a session not connected yet, its host perhaps on its way; None: one of its own.
        reread: a setting as it stands in its sources now, for a token that is replaced; None: as at the start for ever.
        on_open: called once every room is open, before anything runs.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        terminal: MT5SessionManager | None = None,
        *,
        reread: Reread | None = None,
        on_open: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self._session = terminal
        self._reread = reread
        self._on_open = on_open
        self.hybrid = settings.mode == "hybrid"
        self.opened = False
        """True once every room is open: what fails after that is no matter of the configuration."""
        self.successor: Settings | None = None
        """With what to begin anew once this one has ended; None: not at all."""
        self._break_first = self._may_break = False
        self._stop = asyncio.Event()
        self._defect: BaseException | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._memos: set[asyncio.Task[None]] = set()
        self._states: dict[str, str] = {"terminal": "disconnected"}
        self.control: ControlClient | None = None
        self.broker: BrokerSide | None = None
        self.gateway: GatewayServer | None = None
        self._greeted_nameless = False
        self._limits_now: Limits | None = None
        self._limits_login: int | None = None
        self._stack = AsyncExitStack()

    def request_stop(self) -> None:
        """End in order, exit code 0."""
        self._stop.set()

    def emergency_break(self) -> None:
        """Ctrl+Break (or Ctrl+\\) with BREAK_IS_EMERGENCY."""
        if not self._may_break:
            self._break_first = True  # pressed while the rooms are being opened: it is the first thing done then
            return
        emergency = self.flows.emergency
        emergency.stop(reason="Ctrl+Break", by="console", origin=Origin.LOCAL, options=emergency.defaults)

    async def run(self) -> None:
        """Open, run, stop.

        Raises:
            BaseException: what ended the bridge, when it was not asked to: a refused terminal, a defect.
        """
        async with self._stack:
            await self._open()
            self.opened = True
            self._on_open()
            try:
                async with asyncio.TaskGroup() as group:
                    for name, work in self._works():
                        self._tasks.append(group.create_task(work, name=name))
                    await self._stop.wait()
                    await self._shut_down()
            except BaseException:
                await self._shut_down()
                raise
        if self._defect is not None:
            raise self._defect

    # --- opening

    async def _open(self) -> None:
        settings = self.settings
        # A bare daemon must not pay for a web server, and one with a gateway not wait for its loading.
        web = asyncio.ensure_future(asyncio.to_thread(_load_gateway)) if settings.gateway_enabled else None
        self.journal = await Journal.open(settings.data_dir / JOURNAL_FILE, account=rooms.account_of(settings))
        self._stack.push_async_callback(self.journal.close, _STOP_JOURNAL_S)
        self.terminal = self._session or MT5SessionManager(rooms.daemon_config(settings))
        self._stack.push_async_exit(self._end_terminal)
        self._open_channels()
        self._assemble(await last_halt(self.journal))
        self._stack.push_async_callback(self.flows.latch.close)
        await self._restore()
        await self.flows.local.open()
        self._stack.push_async_callback(self.flows.local.close)
        if web is not None:
            open_gateway = await web
            self.gateway = await open_gateway(settings, self.door, self.journal, self.clock, on_defect=self._on_defect)
            self._stack.push_async_callback(self.gateway.stop, _STOP_CHANNEL_S)
        if self.broker is not None:
            self.broker.producer.start()

    def _open_channels(self) -> None:
        settings = self.settings
        backend = rooms.control_config(settings)
        if backend is not None:
            self._states["backend"] = "disconnected"
            self.control = ControlClient(
                backend,
                hello=self._hello,
                on_frame=self._on_frame,
                on_state=self._backend_state,
                credentials=Renewal(settings, self._reread),
            )
        if self.hybrid:
            from mt5_bridge.app.broker import BrokerSide  # standard mode must not pay for a Kafka client
            from mt5_bridge.redpanda import quiet_library

            self._stack.enter_context(quiet_library())
            self._states["redpanda"] = "disconnected"
            self.broker = BrokerSide(settings, self._broker_state)

    def _assemble(self, last: LastHalt) -> None:
        around = Surroundings(
            limits=self.limits,
            login=self.login,
            headers=rooms.Headers(self.settings.bridge_id, self.login_text),
            channels=lambda: dict(self._states),
            troubles=self._troubles,
            status=self.status,
            on_ready=self._on_ready,
            on_alarm=self._alarm,
            on_defect=self._on_defect,
        )
        flows = self.flows = Flows(
            rooms.flow_config(self.settings),
            around,
            self.clock,
            terminal=self.terminal,
            port=self.terminal,
            journal=self.journal,
            last=last,
            producer=None if self.broker is None else self.broker.producer,
            backend=self.control,
        )
        self.session = Session(
            self.terminal,
            self.journal,
            flows.book,
            flows.desk,
            flows.trader.lanes,
            flows.guard,
            flows.emergency,
            Rules(
                self._credentials,
                other_account=self.settings.gateway_allow_connect,
                last_words=self._last_words,
                switch=self._change_account,
            ),
        )
        self.door = Door(
            flows.answers,
            flows.emergency,
            flows.intake,
            flows.book,
            self.clock,
            self.session,
            status=self.status,
            health=flows.watch.health,
            listen=flows.fanout.listen,
            figures=self._figures,
        )
        self.terminal.on_state(self._terminal_state)

    async def _restore(self) -> None:
        self.account_note = AccountNote(self.journal)
        known = await self.account_note.restore(rooms.login_of(self.settings), self.settings.mt5_server)
        if known.same_server and (timeline := await recalled(self.journal, CLOCK_MEMO, list[Segment])):
            read = (await self.journal.cursors()).values()
            heard = max((cursor.time_msc for cursor in read if cursor.epoch == timeline[-1].epoch), default=None)
            self.terminal.clock.restore(timeline, heard)
        self.terminal.clock.on_change(self._timeline_changed)
        await self.flows.restore(same_account=known.same_account, same_server=known.same_server)
        self._halt_at_start()
        await self.flows.take_up()
        if rooms.login_of(self.settings) is not None:
            self.flows.intake.login_known.set()

    def _halt_at_start(self) -> None:
        """What latches at a start beside the latch of an earlier life: before any signal is taken up."""
        self._may_break = True
        if self._break_first:
            self.emergency_break()
        if self.settings.emergency_stop:
            self.flows.emergency.stop(reason="EMERGENCY_STOP=true", by="settings", origin=Origin.RULE, options=None)
        halt = self.flows.latch.halt
        if halt.state is not HaltState.ACTIVE:
            logger.bind(event="still_halted", state=halt.state.value).warning(
                "Trading is still {state} since {at}: {reason} (by {by}); `mt5-bridge resume` lifts it",
                state=halt.state.value,
                at=iso(halt.at_msc),
                reason=halt.reason,
                by=halt.by,
            )

    # --- running

    def _works(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        works = {"terminal": self._connect_terminal()}
        works |= {name: work() for name, work in self.flows.works().items()}
        if self.broker is not None:
            works |= self.broker.works(self.flows.intake, self.journal, self.login_text)
        if self.control is not None:
            works["control"] = self.control.run()
        return list(works.items())

    async def _connect_terminal(self) -> None:
        """Wait for the terminal as long as it takes; what no retry mends ends the bridge."""
        await self.terminal.connect()
        if self.settings.terminal != "mt5" or rooms.account_of(self.settings) is not None:
            return
        account = await self._account()
        lock = InstanceLock(account_lock_path(f"{account.login}@{account.server}", None))
        self._stack.enter_context(lock)

    async def _account(self) -> AccountInfo:
        while True:
            try:
                return await self.terminal.get_account_info()
            except MT5Error as error:
                logger.bind(event="account_unknown").warning("The account cannot be read yet: {e}", e=error)
                await asyncio.sleep(_ASK_AGAIN_S)

    def _on_frame(self, frame: bytes) -> None:
        self.flows.control.on_frame(frame)

    def _on_defect(self, error: BaseException) -> None:
        """A bug in a flow stops the bridge, loudly, with a non-zero exit code."""
        logger.bind(event="defect").opt(exception=error).critical("ERROR a defect stops the bridge: {e}", e=error)
        self._defect = self._defect or error
        self._stop.set()

    # --- what changes

    def _terminal_state(self, state: TerminalState, detail: str) -> None:
        if state is TerminalState.CONNECTED:
            self.flows.intake.login_known.set()
            if self._greeted_nameless and self.control is not None:
                self.control.send(self._hello())  # a backend tells bridges apart by the account
        self.flows.terminal_state(state)
        self._channel("terminal", state.value, detail)

    def _broker_state(self, state: Any, detail: str) -> None:
        self._channel("redpanda", state.value, detail)
        self.flows.outbox.wake()

    def _troubles(self) -> list[str]:
        return [] if self.broker is None else self.broker.troubles()

    def _backend_state(self, state: Any, detail: str) -> None:
        self._channel("backend", state.value, detail)
        if state.value == "connected":
            self.flows.watch.beat()
            self.flows.account.greet()
            self.flows.outbox.wake()

    def _channel(self, channel: str, state: str, detail: str) -> None:
        self._states[channel] = state
        message = ConnectionStatus(channel=channel, state=state, since=iso(self.clock.now_ms()), detail=detail)
        self.flows.outbox.latest("connection_status", message, slot=f"connection_status:{channel}")
        self.flows.fanout.channel(channel, message)

    def _alarm(self, detail: str) -> None:
        logger.bind(event="not_ready").error("ERROR the terminal does not trade: {detail}", detail=detail)

    def _on_ready(self) -> None:
        account = self.flows.book.account
        if account is not None:
            other = self.account_note.is_other(account)
            self._note(self.account_note.write(account, *(self._anew() if other else ())))
        self.flows.account.changed()
        self.flows.account.greet()

    def _anew(self) -> list[changes.Change]:
        """What the journal holds of the account before, as it is for this one."""
        return [
            self.flows.account.take_as_known(),
            changes.Memo(name=DAY_MEMO, value=msgspec.json.encode(self.flows.book.day)),
            changes.Memo(name=CLOCK_MEMO, value=msgspec.json.encode(self.terminal.clock.timeline)),
        ]

    def _timeline_changed(self, timeline: tuple[Segment, ...]) -> None:
        async def save() -> None:
            try:
                await self.journal.commit(changes.Memo(name=CLOCK_MEMO, value=msgspec.json.encode(timeline)))
            except JournalError as error:
                logger.bind(event="clock_not_saved").warning("The broker's clock is not saved: {e}", e=error)

        self._note(save())

    def _note(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Write beside everything else."""
        task = asyncio.create_task(work, name="memo")
        self._memos.add(task)
        task.add_done_callback(self._memos.discard)
        return task

    # --- who we are

    def login(self) -> str | None:
        """The account's login, None while unknown."""
        return self.login_text() or None

    def login_text(self) -> str:
        """The account's login, empty while unknown."""
        login = rooms.login_of(self.settings) or self.terminal.login
        return "" if login is None else str(login)

    @property
    def channels(self) -> Mapping[str, str]:
        """The state of each channel that is configured."""
        return self._states

    async def _figures(self) -> Figures:
        from mt5_bridge.app.figures import figures  # nobody asks where there is no gateway

        return await figures(self)

    def limits(self) -> Limits:
        """The trading settings as they are now."""
        login = self.terminal.login
        if self._limits_now is None or self._limits_login != login:
            self._limits_now, self._limits_login = rooms.limits(self.settings, login), login
        return self._limits_now

    def _credentials(self) -> Credentials:
        """The account that this bridge trades."""
        account, login = self.flows.book.account, self.login_text()
        server = account.server if account is not None else self.settings.mt5_server
        return Credentials(int(login) if login else None, server, rooms.reveal(self.settings.mt5_password))

    async def _last_words(self) -> None:
        """What changed on this account is announced: of another account's life nobody will hear it."""
        task = self._note(self.flows.account.announce_the_last())
        await asyncio.wait((task,), timeout=_LAST_WORDS_S)  # never cut off: what is durable by then must be known

    async def _change_account(self, wanted: Credentials) -> None:
        """Try another account, and begin anew with it where it can be had.

        Raises:
            MT5Error: it cannot; the session is ended then.
        """
        settings = other_account(self.settings, wanted)
        await self.terminal.disconnect()
        await try_account(settings)
        self.successor = settings
        self._stop.set()

    def _hello(self) -> bytes:
        self._greeted_nameless = not self.login_text()
        return hello(self)

    def status(self) -> dict[str, Any]:
        """The health report of `mt5-bridge status` and `get_status`."""
        return status(self)

    # --- stopping

    async def _shut_down(self) -> None:
        """Intake, in-flight order, producer flush, terminal, journal: in this order, each bounded."""
        if not self._tasks:
            return
        tasks, self._tasks = self._tasks, []
        logger.bind(event="stopping").info("Stopping")
        self.door.close()
        for task in tasks:
            if task.get_name() in ("signals", "commands", "frame-signals", "trailing"):
                task.cancel()
        await self.session.close()
        flows = self.flows
        await flows.end_orders()
        # A disk that hangs costs its time once; what is not written is read or asked for again at the next start.
        if await self._last_writes():
            await self._flush()
        tasks += self._memos
        for task in tasks:
            task.cancel()
        await flows.control.close()
        ends: list[Awaitable[object]] = []
        if self.control is not None:
            ends.append(self.control.stop(_STOP_CHANNEL_S))
        if self.broker is not None:
            ends.append(self.broker.producer.stop(_STOP_CHANNEL_S))
        if self.gateway is not None:
            ends.append(self.gateway.stop(_STOP_CHANNEL_S))
        await asyncio.gather(*ends, return_exceptions=True)
        await flows.emergency.close()  # a stop may have come while the channels were still open
        await asyncio.wait(tasks, timeout=_STOP_CHANNEL_S)

    async def _last_writes(self) -> bool:
        """What is still to be written, but not for ever; whether it was."""
        try:
            async with asyncio.timeout(_STOP_WRITES_S):
                await self.flows.last_writes(*self._memos)
        except TimeoutError:
            logger.bind(event="stop_overdue").error(
                "ERROR the last writes to the journal take longer than {s:g} s: stopping without them; "
                "what they hold is read again at the next start",
                s=_STOP_WRITES_S,
            )
            return False
        return True

    async def _flush(self) -> None:
        """Give what is announced a moment to leave; what does not is in the journal for the next start."""
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self.flows.outbox.drained(self._reachable())
        except (TimeoutError, JournalError):
            return

    def _reachable(self) -> list[str]:
        names = {"redpanda": REDPANDA, "backend": WEBSOCKET}
        return [queue for channel, queue in names.items() if self._states.get(channel) == "connected"]

    async def _end_terminal(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the host with a bye; without one after a defect, which is a death like any other to the dead-man."""
        died = self._defect is not None or not _in_order(error)
        acts = died and rooms.deadman_args(self.settings) is not None
        seconds = _DEADMAN_S if acts else _STOP_TERMINAL_S
        try:
            # A little more than the host has: killed, it still is to be seen off.
            async with asyncio.timeout(seconds + _SEE_OFF_S):
                await self.terminal.disconnect(bye=not died, timeout=seconds)
        except TimeoutError:
            self.terminal.kill_host("shutdown")


def _load_gateway() -> "Opening":
    from mt5_bridge.app.gateway import open_gateway

    return open_gateway


def _in_order(error: BaseException | None) -> bool:
    """Whether the bridge ends because it was told to, or is refused at its start: nothing of it has died."""
    if isinstance(error, BaseExceptionGroup):
        return all(_in_order(inner) for inner in error.exceptions)
    return error is None or isinstance(error, asyncio.CancelledError | InstanceError | MT5InitError | MT5AuthError)
