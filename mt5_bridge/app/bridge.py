"""One running bridge: its rooms opened in order, its flows as named tasks, its ordered end."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from loguru import logger

from mt5_bridge import __version__
from mt5_bridge.app import rooms
from mt5_bridge.app.accounts import AccountNote, other_account, try_account
from mt5_bridge.app.renewal import Renewal, Reread
from mt5_bridge.control.client import ControlClient
from mt5_bridge.control.commands import capabilities
from mt5_bridge.core import halt as machine
from mt5_bridge.core import wire
from mt5_bridge.core.decision import Day, Limits
from mt5_bridge.core.errors import BrokerError, InstanceError, JournalError, MT5AuthError, MT5Error, MT5InitError
from mt5_bridge.core.figures import Figures
from mt5_bridge.core.halt import Halt, HaltState, Origin
from mt5_bridge.core.messages import ConnectionStatus
from mt5_bridge.core.model import AccountInfo
from mt5_bridge.core.reminder import Reminder
from mt5_bridge.core.times import iso
from mt5_bridge.core.usage import Usage, usage
from mt5_bridge.flows.account import AccountFlow
from mt5_bridge.flows.answers import Answers
from mt5_bridge.flows.bar_ways import BarWay, SocketWay, TopicWay
from mt5_bridge.flows.bars import BarFlow
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.commands import Commands
from mt5_bridge.flows.control import ControlFlow
from mt5_bridge.flows.corrections import Corrections
from mt5_bridge.flows.deadman import DeadManReports
from mt5_bridge.flows.door import Door
from mt5_bridge.flows.emergency import Emergency
from mt5_bridge.flows.exits import Exits
from mt5_bridge.flows.fanout import Fanout
from mt5_bridge.flows.judge import Judge
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.local import LocalControl
from mt5_bridge.flows.orders import OrderDesk
from mt5_bridge.flows.outbox import REDPANDA, WEBSOCKET, Outbox
from mt5_bridge.flows.protect import StopGuard
from mt5_bridge.flows.reconcile import Reconciler
from mt5_bridge.flows.session import Credentials, Rules, Session
from mt5_bridge.flows.settle import Settler
from mt5_bridge.flows.shapes import halt_data
from mt5_bridge.flows.signals import Intake
from mt5_bridge.flows.ticks import TickFlow
from mt5_bridge.flows.trader import Trader
from mt5_bridge.flows.trailing import Trailing
from mt5_bridge.flows.watch import DAY_MEMO, Watch
from mt5_bridge.journal import changes
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.latchfile import LatchFile
from mt5_bridge.journal.lock import InstanceLock, account_lock_path
from mt5_bridge.settings import Settings
from mt5_bridge.terminal.clock import Segment
from mt5_bridge.terminal.port import TerminalState
from mt5_bridge.terminal.session import MT5SessionManager

if TYPE_CHECKING:
    from mt5_bridge.gateway.server import GatewayServer
    from mt5_bridge.redpanda.consumer import SignalConsumer
    from mt5_bridge.redpanda.producer import Producer

    Opening = Callable[..., Awaitable[GatewayServer]]

T = TypeVar("T")

JOURNAL_FILE = "journal.db"
LATCH_FILE = "halt.latch"
DEVIATION_POINTS = 20
"""Allowed slippage of market orders whose signal names none."""
CLOCK_MEMO = "clock"
_TOPIC_RETRY_S = 2.0
_TOPICS_LOOKED_AT_S = 5.0
_FLUSH_S = 1.0
_STOP_CHANNEL_S = 1.0
_STOP_TERMINAL_S = 2.0
_SEE_OFF_S = 1.0
_DEADMAN_S = 75.0
"""After a defect the host has a minute to act by itself."""
_STOP_JOURNAL_S = 2.0
_STOP_WRITES_S = 1.5
_ASK_AGAIN_S = 1.0


class Bridge:
    """Joins a terminal to a backend until `request_stop`.

    Args:
        settings: what the bridge was told.
        clock: time.
        terminal: a session not connected yet, its host perhaps on its way; None: one of its own.
        reread: a setting as it stands in its sources now, for a token that is replaced; None: as at the start for ever.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        terminal: MT5SessionManager | None = None,
        *,
        reread: Reread | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self._session = terminal
        self._reread = reread
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
        self._signals_trouble: str | None = None
        self.gateway: GatewayServer | None = None
        self.consumer: SignalConsumer | None = None
        self._broker_told = Reminder()
        """What has been told of the broker: by the producer or by the signals' consumer, whichever saw it first."""
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
        self.emergency.stop(reason="Ctrl+Break", by="console", origin=Origin.LOCAL, options=self.emergency.defaults)

    async def run(self) -> None:
        """Open, run, stop.

        Raises:
            BaseException: what ended the bridge, when it was not asked to: a refused terminal, a defect.
        """
        async with self._stack:
            await self._open()
            self.opened = True
            try:
                async with asyncio.TaskGroup() as group:
                    for name, work in self._flows():
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
        file = LatchFile(settings.data_dir / LATCH_FILE)
        self.terminal = self._session or MT5SessionManager(rooms.daemon_config(settings))
        self._stack.push_async_exit(self._end_terminal)
        headers = rooms.Headers(settings.bridge_id, self.login_text)
        backend = rooms.control_config(settings)
        self.outbox = Outbox(
            self.journal,
            self.clock,
            channels=((REDPANDA,) if self.hybrid else ()) + ((WEBSOCKET,) if backend else ()),
            login=self.login_text,
            headers=headers,
            event_topic=settings.redpanda_event_topic,
            dlq_topic=settings.dlq_topic,
        )
        self.latch = HaltLatch(self.outbox, file, await self._latched(file))
        self._stack.push_async_callback(self.latch.close)
        self.control: ControlClient | None = None
        if backend is not None:
            self._states["backend"] = "disconnected"
            self.control = ControlClient(
                backend,
                hello=self._hello,
                on_frame=self._on_frame,
                on_state=self._backend_state,
                credentials=Renewal(settings, self._reread),
            )
        self.producer: Producer | None = None
        if self.hybrid:
            from mt5_bridge.redpanda import producer, quiet_library  # standard mode must not pay for a Kafka client

            self._stack.enter_context(quiet_library())
            self._states["redpanda"] = "disconnected"
            self.producer = producer.Producer(
                rooms.redpanda_config(settings), on_state=self._broker_state, told=self._broker_told
            )
        self._assemble(headers)
        await self._restore()
        await self.local.open()
        self._stack.push_async_callback(self.local.close)
        if web is not None:
            open_gateway = await web
            self.gateway = await open_gateway(settings, self.door, self.journal, self.clock, on_defect=self._on_defect)
            self._stack.push_async_callback(self.gateway.stop, _STOP_CHANNEL_S)
        if self.producer is not None:
            self.producer.start()

    def _assemble(self, headers: rooms.Headers) -> None:
        settings, clock, terminal = self.settings, self.clock, self.terminal
        self.fanout = Fanout(self.control)
        self._telling = self.fanout if settings.gateway_enabled else self.control
        self.book = Book(terminal, clock, rooms.day_zone(settings))
        self.settler = Settler(terminal, clock, window_s=settings.settle_window)
        self.desk = OrderDesk(
            terminal,
            self.journal,
            self.outbox,
            self.book,
            self.latch,
            self.settler,
            clock,
            magic_base=settings.mt5_magic,
            simulate=settings.simulation_mode,
            on_defect=self._on_defect,
        )
        self.judge = Judge(terminal, self.book, self.latch, clock, self._limits)
        self.exits = Exits(
            self.desk,
            self.judge,
            self.book,
            terminal,
            self.journal,
            clock,
            magic_base=settings.mt5_magic,
            deviation_points=DEVIATION_POINTS,
        )
        self.guard = StopGuard(self.desk, self.book, terminal, clock, deviation_points=DEVIATION_POINTS)
        self.trader = Trader(
            self.desk,
            self.judge,
            self.book,
            self.settler,
            clock,
            self.exits,
            self.guard,
            deviation_points=DEVIATION_POINTS,
            on_defect=self._on_defect,
        )
        self.intake = Intake(
            self.trader,
            self.journal,
            self.outbox,
            clock,
            limits=self._limits,
            early=self.judge.early,
            login=self.login,
            hmac_keys=rooms.hmac_keys(settings),
            reply=self._reply,
            magic_of=self.desk.natural_magic,
        )
        self.emergency = Emergency(
            terminal,
            self.desk,
            self.book,
            self.latch,
            self.outbox,
            self.journal,
            clock,
            defaults=rooms.stop_options(settings),
            grace_s=settings.stop_grace,
            magic_base=settings.mt5_magic,
        )
        self.account = AccountFlow(
            terminal,
            self.book,
            self.journal,
            self.outbox,
            clock,
            control=self._telling,
            interval_s=settings.account_interval,
        )
        self.ticks = TickFlow(
            terminal,
            self.journal,
            self.book,
            clock,
            symbols=settings.symbols,
            hz=settings.tick_hz,
            latest_only=settings.tick_capture == "latest",
            backfill_ms=round(settings.tick_backfill * 1000),
            topic=settings.redpanda_tick_topic,
            headers=headers,
            producer=self.producer,
            stream=None if self.hybrid else self.control,
            on_defect=self._on_defect,
        )
        self.bars = BarFlow(
            terminal,
            self.journal,
            self.book,
            clock,
            symbols=lambda: self.ticks.symbols,
            timeframes=settings.bars,
            way=self._bar_way(headers),
        )
        self.reconciler = Reconciler(
            terminal,
            self.journal,
            self.book,
            self.desk,
            self.settler,
            self.trader,
            self.exits,
            self.guard,
            self.intake,
            DeadManReports(settings.data_dir, self.journal, self.outbox, self.latch),
            clock,
            on_ready=self._on_ready,
        )
        self.corrections = Corrections(
            self.journal, self.book, self.desk, self.trader, self.exits, self.guard, self.intake, clock
        )
        self.trailing = Trailing(
            self.desk,
            self.judge,
            self.book,
            self.guard,
            terminal,
            self.journal,
            clock,
            magic_base=settings.mt5_magic,
        )
        self._assemble_control()

    def _bar_way(self, headers: rooms.Headers) -> BarWay | None:
        if self.producer is not None:
            return TopicWay(self.producer, self.settings.redpanda_bar_topic, headers)
        return None if self.control is None else SocketWay(self.control)

    def _assemble_control(self) -> None:
        settings, clock = self.settings, self.clock
        self.watch = Watch(
            self.terminal,
            self.journal,
            self.book,
            self.latch,
            self.emergency,
            clock,
            rooms.watch_config(settings),
            limits=self._limits,
            channels=lambda: dict(self._states),
            troubles=self._troubles,
            backend_seen=lambda: self.control.last_seen_msc if self.control else None,
            tick_age_ms=lambda: self.ticks.stats.age_ms,
            control=self._telling,
        )
        self.commands = Commands(
            self.terminal,
            self.book,
            self.journal,
            self.latch,
            self.emergency,
            self.desk,
            self.intake,
            self.ticks,
            clock,
            limits=self._limits,
            status=self.status,
            remote_resume=settings.resume_remote,
            magic_base=settings.mt5_magic,
        )
        self.answers = Answers(self.journal, self.latch, self.emergency, clock, self.commands.table())
        self.control_flow = ControlFlow(
            self.answers,
            self.intake,
            clock,
            on_defect=self._on_defect,
            permitted=rooms.permissions(settings),
        )
        if self.control is not None:
            self.control_flow.attach(self.control)
        self.session = Session(
            self.terminal,
            self.journal,
            self.book,
            self.desk,
            self.trader.lanes,
            self.guard,
            self.emergency,
            Rules(self._credentials, other_account=settings.gateway_allow_connect, switch=self._change_account),
        )
        self.fanout.attach(
            ticks=self.ticks,
            ticks_to_backend=not self.hybrid,
            outbox=self.outbox,
            book=self.book,
            clock=clock,
            health=self.watch.health,
        )
        self.door = Door(
            self.answers,
            self.emergency,
            self.intake,
            self.book,
            clock,
            self.session,
            status=self.status,
            listen=self.fanout.listen,
            figures=self._figures,
        )
        self.local = LocalControl(settings.data_dir, self.latch, self.emergency, self.commands, status=self.status)
        self.terminal.on_state(self._terminal_state)
        self.journal.on_health(self._journal_health)
        self.desk.on_alarm(self._alarm)

    async def _latched(self, file: LatchFile) -> Halt:
        """The latch as journal and file know it, the stricter of both; EMERGENCY_STOP=true halts beside them."""
        stored, record = await self.journal.halt(), file.read()
        halt = known = Halt()
        if stored is not None:
            halt = Halt(
                state=HaltState(stored.state),
                reason=stored.reason,
                by=stored.by,
                at_msc=stored.at_msc,
                origin=Origin(stored.origin),
                until_day=stored.until_day,
            )
            known = halt
        if record is not None:
            # Only a file newer than the journal can be stricter; who stopped remotely is not in it: taken as local.
            written = Halt(state=HaltState(record.state), reason=record.reason, by=record.by, at_msc=record.at_msc)
            halt = machine.stricter(halt, written)
        self._only_in_file = halt is not known
        return halt

    async def _restore(self) -> None:
        self.account_note = AccountNote(self.journal)
        known = await self.account_note.restore(rooms.login_of(self.settings), self.settings.mt5_server)
        if known.same_account and (day := await self._memo(DAY_MEMO, Day)) is not None:
            self.book.restore_day(day)
        if known.same_server and (timeline := await self._memo(CLOCK_MEMO, list[Segment])) is not None:
            self.terminal.clock.restore(timeline)
        self.terminal.clock.on_change(self._timeline_changed)
        if known.same_account:
            await self.account.restore()
        if known.same_server:
            await self.ticks.restore()
        await self.watch.restore()
        await self.answers.restore()
        await self._restore_halt()
        await self.desk.plans.restore(self.journal)
        await self.reconciler.take_up()
        if rooms.login_of(self.settings) is not None:
            self.intake.login_known.set()

    async def _memo(self, name: str, kind: type[T]) -> T | None:
        """What an earlier life noted; what cannot be read any more is done without."""
        stored = await self.journal.memo(name)
        if stored is None:
            return None
        try:
            return msgspec.json.decode(stored, type=kind)
        except msgspec.DecodeError as error:
            logger.bind(event="memo_unreadable", memo=name).error("ERROR the note {n} is lost: {e}", n=name, e=error)
            return None

    async def _restore_halt(self) -> None:
        """The latch of an earlier life, and what latches at a start: all before any signal is taken up."""
        if self._only_in_file:
            self.latch.write_down()
        elif await self.journal.memo(changes.HALT_UNTOLD):
            await self.latch.announce(changes.Memo(name=changes.HALT_UNTOLD, value=b""))
        await self.emergency.take_up()
        await self.watch.look_for_stop_file()
        self._may_break = True
        if self._break_first:
            self.emergency_break()
        if self.settings.emergency_stop:
            self.emergency.stop(reason="EMERGENCY_STOP=true", by="settings", origin=Origin.RULE, options=None)
        if self.latch.halt.state is not HaltState.ACTIVE:
            halt = self.latch.halt
            logger.bind(event="still_halted", state=halt.state.value).warning(
                "Trading is still {state} since {at}: {reason} (by {by}); `mt5-bridge resume` lifts it",
                state=halt.state.value,
                at=iso(halt.at_msc),
                reason=halt.reason,
                by=halt.by,
            )

    # --- running

    def _flows(self) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        flows: list[tuple[str, Coroutine[Any, Any, None]]] = [
            ("terminal", self._connect_terminal()),
            ("reconcile", self.reconciler.run()),
            ("corrections", self.corrections.run()),
            ("trailing", self.trailing.run()),
            ("ticks", self.ticks.run()),
            ("account-poll", self.account.run_polling()),
            ("account-events", self.account.run_events()),
            ("account", self.account.run_account()),
            ("heartbeat", self.watch.run_heartbeat()),
            ("stalls", self.watch.run_stalls()),
            ("rules", self.watch.run_rules()),
            ("day", self.watch.run_day()),
            ("probe", self.watch.run_probe()),
            ("housekeeping", self.watch.run_housekeeping()),
            ("outbox-janitor", self.outbox.run_janitor()),
        ]
        if self.producer is not None:
            flows += [
                ("cursors", self.ticks.run_cursors()),
                ("topics", self._keep_topics()),
                ("signals", self._consume()),
                ("outbox-redpanda", self.outbox.run_redpanda(self.producer)),
                ("states", self.outbox.run_latest(self.producer)),
            ]
        if self.bars.on:
            flows.append(("bars", self.bars.run()))
        if self.control is not None:
            flows += [
                ("control", self.control.run()),
                ("commands", self.control_flow.run_commands()),
                ("frame-signals", self.control_flow.run_signals()),
                ("outbox-websocket", self.outbox.run_websocket(self.control)),
            ]
        return flows

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

    async def _keep_topics(self) -> None:
        """Makes what the broker lacks, at the start and when one is gone later: deleted, or the whole broker wiped."""
        if not self.settings.redpanda_create_topics:
            return
        await self._make_topics()
        while True:
            await asyncio.sleep(_TOPICS_LOOKED_AT_S)
            if self._troubles():
                await self._make_topics()

    async def _make_topics(self) -> None:
        from mt5_bridge.redpanda.topics import ensure_topics

        assert self.producer is not None
        told = ""
        while True:
            await self.producer.wait_connected()  # why there is no connection is the producer's to tell
            try:
                await ensure_topics(rooms.redpanda_config(self.settings), rooms.topic_specs(self.settings))
            except (BrokerError, TimeoutError) as error:
                if str(error) != told:
                    told = str(error)
                    logger.bind(event="topics_missing").warning("Topics cannot be made yet: {e}", e=told or "timeout")
                await asyncio.sleep(_TOPIC_RETRY_S)
            else:
                return

    async def _consume(self) -> None:
        from mt5_bridge.redpanda.consumer import SignalConsumer

        assert self.producer is not None
        await self.intake.login_known.wait()
        settings = self.settings
        topic = settings.redpanda_signal_topic
        consumer = self.consumer = SignalConsumer(
            rooms.redpanda_config(settings),
            topic,
            settings.redpanda_group_id or f"mt5-bridge-{self.login_text()}",
            await self.journal.offsets(topic),
            settings.signal_max_age_ms,
            on_state=self._signals_state,
            told=self._broker_told,
            access=self.producer.access,
            on_reset=self.intake.position_lost,
        )
        consumer.start()
        try:
            async for batch in consumer.records():
                await self.intake.take(batch)
                consumer.commit({record.partition: record.offset + 1 for record in batch})
        finally:
            await asyncio.shield(consumer.stop(_STOP_CHANNEL_S))

    def _on_frame(self, frame: bytes) -> None:
        self.control_flow.on_frame(frame)

    def _reply(self, frame: bytes) -> None:
        if self.control is not None:
            self.control.send(frame)

    def _on_defect(self, error: BaseException) -> None:
        """A bug in a flow stops the bridge, loudly, with a non-zero exit code."""
        logger.bind(event="defect").opt(exception=error).critical("ERROR a defect stops the bridge: {e}", e=error)
        self._defect = self._defect or error
        self._stop.set()

    # --- what changes

    def _terminal_state(self, state: TerminalState, detail: str) -> None:
        if state is TerminalState.CONNECTED:
            self.ticks.reconnected()
            self.bars.reconnected()
            self.intake.login_known.set()
            if self._greeted_nameless and self.control is not None:
                self.control.send(self._hello())  # a backend tells bridges apart by the account
        self.reconciler.state_changed(state)
        self._channel("terminal", state.value, detail)

    def _broker_state(self, state: Any, detail: str) -> None:
        self._channel("redpanda", state.value, detail)
        self.outbox.wake()

    def _signals_state(self, state: Any, detail: str) -> None:
        self._signals_trouble = None if state.value == "connected" else f"signals {state.value}: {detail}"

    def _troubles(self) -> list[str]:
        """What does not work though the broker is there."""
        if self.producer is None or self._states["redpanda"] != "connected":
            return []
        found = [f"topic {topic} takes nothing" for topic in self.producer.refusing]
        return found + ([self._signals_trouble] if self._signals_trouble else [])

    def _backend_state(self, state: Any, detail: str) -> None:
        self._channel("backend", state.value, detail)
        if state.value == "connected":
            self.watch.beat()
            self.account.greet()
            self.outbox.wake()

    def _channel(self, channel: str, state: str, detail: str) -> None:
        self._states[channel] = state
        message = ConnectionStatus(channel=channel, state=state, since=iso(self.clock.now_ms()), detail=detail)
        self.outbox.latest("connection_status", message, slot=f"connection_status:{channel}")
        self.fanout.channel(channel, message)

    def _journal_health(self, healthy: bool, detail: str) -> None:
        self.book.journal_healthy = healthy

    def _alarm(self, detail: str) -> None:
        logger.bind(event="not_ready").error("ERROR the terminal does not trade: {detail}", detail=detail)

    def _on_ready(self) -> None:
        if self.book.account is not None:
            other = self.account_note.is_other(self.book.account)
            self._note(self.account_note.write(self.book.account, *(self._anew() if other else ())))
        self.account.changed()
        self.account.greet()

    def _anew(self) -> list[changes.Change]:
        """What the journal holds of the account before, as it is for this one."""
        return [
            self.account.take_as_known(),
            changes.Memo(name=DAY_MEMO, value=msgspec.json.encode(self.book.day)),
            changes.Memo(name=CLOCK_MEMO, value=msgspec.json.encode(self.terminal.clock.timeline)),
        ]

    def _timeline_changed(self, timeline: tuple[Segment, ...]) -> None:
        async def save() -> None:
            try:
                await self.journal.commit(changes.Memo(name=CLOCK_MEMO, value=msgspec.json.encode(timeline)))
            except JournalError as error:
                logger.bind(event="clock_not_saved").warning("The broker's clock is not saved: {e}", e=error)

        self._note(save())

    def _note(self, work: Coroutine[Any, Any, None]) -> None:
        """Write beside everything else."""
        task = asyncio.create_task(work, name="memo")
        self._memos.add(task)
        task.add_done_callback(self._memos.discard)

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
        return self._limits()

    def _credentials(self) -> Credentials:
        """The account that this bridge trades."""
        account, login = self.book.account, self.login_text()
        server = account.server if account is not None else self.settings.mt5_server
        return Credentials(int(login) if login else None, server, rooms.reveal(self.settings.mt5_password))

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

    def _limits(self) -> Limits:
        login = self.terminal.login
        if self._limits_now is None or self._limits_login != login:
            self._limits_now, self._limits_login = rooms.limits(self.settings, login), login
        return self._limits_now

    def _hello(self) -> bytes:
        login = self.login_text()
        self._greeted_nameless = not login
        data = {
            "bridge_id": self.settings.bridge_id,
            "version": __version__,
            "mode": self.settings.mode,
            "account": int(login) if login else None,
            "symbols": list(self.ticks.symbols) or list(self.settings.symbols),
            "halt": halt_data(self.latch.halt),
            "capabilities": capabilities(rooms.permissions(self.settings)),
        }
        return wire.encode("hello", data, now_msc=self.clock.now_ms())

    def status(self) -> dict[str, Any]:
        """The health report of `mt5-bridge status` and `get_status`."""
        return {
            **self.watch.health(),
            "bridge_id": self.settings.bridge_id,
            "version": __version__,
            "mode": self.settings.mode,
            "account": self.login(),
            "halt_detail": halt_data(self.latch.halt),
            "symbols": list(self.ticks.symbols),
            "symbols_missing": dict(self.ticks.missing),
            "positions": len(self.book.positions),
            "orders": len(self.book.orders),
            "unknown_intents": len(self.desk.unresolved),
            "survivors": list(self.emergency.survivors),
            "managed_stops": len(self.desk.plans.open),
            "limits": msgspec.to_builtins(self._usage()),
            "bars": self.bars.status() if self.bars.on else None,
            "trading_enabled": self.settings.trading_enabled,
            "simulation_mode": self.settings.simulation_mode,
            "journal_healthy": self.journal.healthy,
            "gateway": None if self.gateway is None else self.gateway.url,
            "counters": {
                "ticks": self.ticks.stats.published,
                "missed_slots": self.ticks.stats.missed_slots,
                "tick_path": msgspec.to_builtins(self.ticks.stats),
                "signals": msgspec.to_builtins(self.intake.stats),
                "orders": msgspec.to_builtins(self.desk.stats),
                "denials": dict(self.judge.denials),
                "commands": msgspec.to_builtins(self.control_flow.stats),
                "backend": None if self.control is None else msgspec.to_builtins(self.control.stats),
                "terminal": msgspec.to_builtins(self.terminal.stats),
                "host_restarts": max(0, self.terminal.stats.host_starts - 1),
                "loop_stalls": self.watch.stats.stalls,
            },
        }

    def _usage(self) -> tuple[Usage, ...]:
        book = self.book
        return usage(
            self._limits(),
            book.day_so_far,
            book.account,
            book.listed_positions,
            book.listed_orders,
            book.in_flight(),
        )

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
        await self.trader.lanes.close()
        await self.emergency.close()
        await self.desk.close()
        # A disk that hangs costs its time once; what is not written is read or asked for again at the next start.
        if await self._last_writes(self.bars.close(), self.ticks.close(), self.watch.save_day(), *self._memos):
            await self._flush()
        tasks += self._memos
        for task in tasks:
            task.cancel()
        await self.control_flow.close()
        ends: list[Awaitable[object]] = []
        if self.control is not None:
            ends.append(self.control.stop(_STOP_CHANNEL_S))
        if self.producer is not None:
            ends.append(self.producer.stop(_STOP_CHANNEL_S))
        if self.gateway is not None:
            ends.append(self.gateway.stop(_STOP_CHANNEL_S))
        await asyncio.gather(*ends, return_exceptions=True)
        await self.emergency.close()  # a stop may have come while the channels were still open
        await asyncio.wait(tasks, timeout=_STOP_CHANNEL_S)

    async def _last_writes(self, *writes: Awaitable[object]) -> bool:
        """What is still to be written, but not for ever; whether it was."""
        try:
            async with asyncio.timeout(_STOP_WRITES_S):
                await asyncio.gather(*writes)
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
                await self.outbox.drained(self._reachable())
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
