"""Every flow of one bridge, joined to the others: what the daemon runs, and what the tests of flows run."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from mt5_bridge.core.decision import Day, Limits
from mt5_bridge.core.permission import Permission
from mt5_bridge.flows.account import AccountFlow
from mt5_bridge.flows.ahead import Ahead
from mt5_bridge.flows.answers import Answers
from mt5_bridge.flows.bar_ways import BarChannel, BarPublisher, BarWay, SocketWay, TopicWay
from mt5_bridge.flows.bars import BarFlow
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.commands import Commands
from mt5_bridge.flows.control import Answering, ControlFlow
from mt5_bridge.flows.corrections import Corrections
from mt5_bridge.flows.deadman import DeadManReports
from mt5_bridge.flows.emergency import Emergency, StopOptions
from mt5_bridge.flows.exits import Exits
from mt5_bridge.flows.fanout import Fanout
from mt5_bridge.flows.judge import Judge
from mt5_bridge.flows.latch import HaltLatch, LastHalt
from mt5_bridge.flows.local import LocalControl
from mt5_bridge.flows.memos import recalled
from mt5_bridge.flows.orders import OrderDesk, OrderPort
from mt5_bridge.flows.outbox import Confirming, Outbox, Publisher
from mt5_bridge.flows.protect import StopGuard
from mt5_bridge.flows.reconcile import Reconciler
from mt5_bridge.flows.settle import Settler
from mt5_bridge.flows.signals import Intake
from mt5_bridge.flows.tick_feed import Headers, TickPublisher, TickStream
from mt5_bridge.flows.ticks import TickFlow
from mt5_bridge.flows.trader import Trader
from mt5_bridge.flows.trailing import Trailing
from mt5_bridge.flows.watch import DAY_MEMO, Watch, WatchConfig
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.latchfile import LatchFile
from mt5_bridge.terminal.port import Terminal, TerminalState

LATCH_FILE = "halt.latch"
Work = Callable[[], Coroutine[Any, Any, None]]


class Producer(Publisher, TickPublisher, BarPublisher, Protocol):
    """The Redpanda producer."""


class Backend(TickStream, BarChannel, Confirming, Answering, Protocol):
    """The WebSocket client."""

    @property
    def last_seen_msc(self) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """What the flows are told once.

    Attributes:
        data_dir: where the journal's folder is.
        zone: where the trading day begins.
        watch: what the watch looks for.
        deviation_points: allowed slippage of market orders whose signal names none.
        hybrid: ticks, bars and events leave by Redpanda; else by the WebSocket.
        gateway: the backend is not the only one who is told.
        channels: the queues of the outbox.
    """

    data_dir: Path
    watch: WatchConfig
    zone: ZoneInfo
    magic_base: int
    symbols: Sequence[str]
    hybrid: bool
    gateway: bool
    channels: tuple[str, ...]
    event_topic: str
    dlq_topic: str
    tick_topic: str
    bar_topic: str
    bars: Sequence[str] = ()
    tick_hz: float = 10.0
    latest_only: bool = False
    backfill_ms: int = 0
    deviation_points: int = 20
    simulate: bool = False
    send_timeout_s: float = 30.0
    settle_window_s: float = 10.0
    stop: StopOptions = field(default_factory=StopOptions)
    stop_grace_s: float = 2.0
    account_interval_s: float = 5.0
    hmac_keys: Sequence[str] = ()
    remote_resume: bool = False
    permitted: frozenset[Permission] = frozenset(Permission)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the flows ask of the daemon around them, at any time, and what they tell it.

    Attributes:
        limits: the trading settings as they are now.
        login: the account's login; None while unknown.
        headers: of a record of a message type.
        channels: the state of each channel that is configured.
        troubles: what does not work though the broker is there.
        status: the health report.
        on_ready: the account has been read and compared: signals may trade.
        on_alarm: the terminal does not trade.
        on_defect: a bug in work that nobody waits for.
    """

    limits: Callable[[], Limits]
    login: Callable[[], str | None]
    headers: Callable[[str], Headers]
    channels: Callable[[], dict[str, str]]
    troubles: Callable[[], Iterable[str]]
    status: Callable[[], dict[str, Any]]
    on_ready: Callable[[], None]
    on_alarm: Callable[[str], None]
    on_defect: Callable[[BaseException], None]


class Flows:
    """All flows of a bridge.

    Args:
        terminal: the session, as all but the order desk see it.
        port: the part of it that can act.
        journal: open.
        last: the halt state that an earlier life left.
        producer: None in standard mode.
        backend: None without one.
    """

    def __init__(
        self,
        config: FlowConfig,
        around: Surroundings,
        clock: Clock,
        *,
        terminal: Terminal,
        port: OrderPort,
        journal: Journal,
        last: LastHalt,
        producer: Producer | None,
        backend: Backend | None,
    ) -> None:
        self.config, self.clock = config, clock
        self.terminal, self.journal = terminal, journal
        self.producer, self.backend = producer, backend
        self._around = around
        self.outbox = Outbox(
            journal,
            clock,
            channels=config.channels,
            login=lambda: around.login() or "",
            headers=around.headers,
            event_topic=config.event_topic,
            dlq_topic=config.dlq_topic,
        )
        self.latch = HaltLatch(self.outbox, LatchFile(config.data_dir / LATCH_FILE), last)
        self.fanout = Fanout(backend)
        self._assemble_orders(port)
        self._assemble_reports()
        self._assemble_control()
        journal.on_health(self._journal_health)
        self.desk.on_alarm(around.on_alarm)

    def _assemble_orders(self, port: OrderPort) -> None:
        config, around, clock = self.config, self._around, self.clock
        terminal, journal, outbox, latch = self.terminal, self.journal, self.outbox, self.latch
        magic, deviation = config.magic_base, config.deviation_points
        book = self.book = Book(terminal, clock, config.zone)
        self.settler = Settler(terminal, clock, window_s=config.settle_window_s)
        desk = self.desk = OrderDesk(
            port,
            journal,
            outbox,
            book,
            latch,
            self.settler,
            clock,
            magic_base=magic,
            simulate=config.simulate,
            on_defect=around.on_defect,
            send_timeout_s=config.send_timeout_s,
        )
        judge = self.judge = Judge(terminal, book, latch, clock, around.limits)
        self.exits = Exits(desk, judge, book, terminal, journal, clock, magic_base=magic, deviation_points=deviation)
        self.guard = StopGuard(desk, book, terminal, clock, deviation_points=deviation)
        self.trader = Trader(
            desk,
            judge,
            book,
            self.settler,
            clock,
            self.exits,
            self.guard,
            Ahead(judge, book, latch, clock, desk.spawn),
            deviation_points=deviation,
            on_defect=around.on_defect,
        )
        self.intake = Intake(
            self.trader,
            journal,
            outbox,
            clock,
            limits=around.limits,
            early=judge.early,
            login=around.login,
            hmac_keys=config.hmac_keys,
            reply=self._reply,
            magic_of=desk.natural_magic,
        )
        self.emergency = Emergency(
            terminal,
            desk,
            book,
            latch,
            outbox,
            journal,
            clock,
            defaults=config.stop,
            grace_s=config.stop_grace_s,
            magic_base=magic,
        )
        self.trailing = Trailing(desk, judge, book, self.guard, terminal, journal, clock, magic_base=magic)
        self.reconciler = Reconciler(
            terminal,
            journal,
            book,
            desk,
            self.settler,
            self.trader,
            self.exits,
            self.guard,
            self.intake,
            DeadManReports(config.data_dir, journal, outbox, latch),
            clock,
            on_ready=around.on_ready,
        )
        self.corrections = Corrections(journal, book, desk, self.trader, self.exits, self.guard, self.intake, clock)

    def _assemble_reports(self) -> None:
        config, around, clock = self.config, self._around, self.clock
        telling = self.fanout if config.gateway or self.backend is not None else None
        self.account = AccountFlow(
            self.terminal,
            self.book,
            self.journal,
            self.outbox,
            clock,
            control=telling,
            interval_s=config.account_interval_s,
        )
        self.ticks = TickFlow(
            self.terminal,
            self.journal,
            self.book,
            clock,
            symbols=config.symbols,
            hz=config.tick_hz,
            latest_only=config.latest_only,
            backfill_ms=config.backfill_ms,
            topic=config.tick_topic,
            headers=around.headers,
            producer=self.producer if config.hybrid else None,
            stream=None if config.hybrid else self.backend,
            on_defect=around.on_defect,
        )
        self.bars = BarFlow(
            self.terminal,
            self.journal,
            self.book,
            clock,
            symbols=lambda: self.ticks.symbols,
            timeframes=config.bars,
            way=self._bar_way(),
        )
        self.watch = Watch(
            self.terminal,
            self.journal,
            self.book,
            self.latch,
            self.emergency,
            clock,
            config.watch,
            limits=around.limits,
            channels=around.channels,
            troubles=around.troubles,
            backend_seen=lambda: None if self.backend is None else self.backend.last_seen_msc,
            tick_age_ms=lambda: self.ticks.stats.age_ms,
            control=telling,
        )
        self.fanout.attach(
            ticks=self.ticks,
            ticks_to_backend=not config.hybrid,
            outbox=self.outbox,
            book=self.book,
            clock=clock,
            health=self.watch.health,
        )

    def _bar_way(self) -> BarWay | None:
        if self.config.hybrid and self.producer is not None:
            return TopicWay(self.producer, self.config.bar_topic, self._around.headers)
        return None if self.backend is None else SocketWay(self.backend)

    def _assemble_control(self) -> None:
        config, around, clock = self.config, self._around, self.clock
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
            limits=around.limits,
            status=around.status,
            remote_resume=config.remote_resume,
            magic_base=config.magic_base,
        )
        self.answers = Answers(self.journal, self.latch, self.emergency, clock, self.commands.table())
        self.control = ControlFlow(
            self.answers, self.intake, clock, on_defect=around.on_defect, permitted=config.permitted
        )
        if self.backend is not None:
            self.control.attach(self.backend)
        self.local = LocalControl(config.data_dir, self.latch, self.emergency, self.commands, status=around.status)

    # --- a life

    async def restore(self, *, same_account: bool = True, same_server: bool = True) -> None:
        """Know again what the last life knew, its halt included, before any signal is taken up.

        Args:
            same_account: it traded the account of this one.
            same_server: its ticks came from the server of this one's.
        """
        if same_account:
            if (day := await recalled(self.journal, DAY_MEMO, Day)) is not None:
                self.book.restore_day(day)
            await self.account.restore()
        if same_server:
            await self.ticks.restore()
        await self.watch.restore()
        await self.answers.restore()
        await self.latch.take_up()
        await self.emergency.take_up()
        await self.watch.look_for_stop_file()

    async def take_up(self) -> None:
        """Go on with what the last life had under way."""
        await self.desk.plans.restore(self.journal)
        await self.reconciler.take_up()

    def works(self) -> dict[str, Work]:
        """What runs for as long as the bridge does, by name."""
        works: dict[str, Work] = {
            "reconcile": self.reconciler.run,
            "corrections": self.corrections.run,
            "trailing": self.trailing.run,
            "ticks": self.ticks.run,
            "account-poll": self.account.run_polling,
            "account-events": self.account.run_events,
            "account": self.account.run_account,
            "heartbeat": self.watch.run_heartbeat,
            "stalls": self.watch.run_stalls,
            "rules": self.watch.run_rules,
            "day": self.watch.run_day,
            "probe": self.watch.run_probe,
            "housekeeping": self.watch.run_housekeeping,
            "outbox-janitor": self.outbox.run_janitor,
        }
        if (producer := self.producer) is not None:
            works["cursors"] = self.ticks.run_cursors
            works["outbox-redpanda"] = lambda: self.outbox.run_redpanda(producer)
            works["states"] = lambda: self.outbox.run_latest(producer)
        if self.bars.on:
            works["bars"] = self.bars.run
        if (backend := self.backend) is not None:
            works["commands"] = self.control.run_commands
            works["frame-signals"] = self.control.run_signals
            works["outbox-websocket"] = lambda: self.outbox.run_websocket(backend)
        return works

    def terminal_state(self, state: TerminalState) -> None:
        """The terminal came or went."""
        if state is TerminalState.CONNECTED:
            self.ticks.reconnected()
            self.bars.reconnected()
        self.reconciler.state_changed(state)

    async def end_orders(self) -> None:
        """Let what is being sent come to its end; nothing more is begun."""
        await self.trader.lanes.close()
        await self.emergency.close()
        await self.desk.close()

    async def last_writes(self, *beside: "asyncio.Future[Any]") -> None:
        """Note in the journal what the next life begins with."""
        await asyncio.gather(self.bars.close(), self.ticks.close(), self.watch.save_day(), *beside)

    def _reply(self, frame: bytes) -> None:
        if self.backend is not None:
            self.backend.send(frame)

    def _journal_health(self, healthy: bool, detail: str) -> None:
        self.book.journal_healthy = healthy
