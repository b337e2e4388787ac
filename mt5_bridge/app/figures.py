"""A running bridge's figures, out of the counters that its flows keep anyway; nothing is done unless somebody asks."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import psutil

from mt5_bridge import __version__
from mt5_bridge.control.config import ChannelState
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.figures import Figures, Labels, Value, by_label, kept, one, state_set
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.health import Health
from mt5_bridge.flows.outbox import REDPANDA, WEBSOCKET
from mt5_bridge.terminal.port import TerminalState

if TYPE_CHECKING:
    from mt5_bridge.app.bridge import Bridge

T = TypeVar("T")

JOURNAL_S = 1.0
"""What a disk that hangs may hold up a scrape: without an answer its figures are left out."""
_ON = (TerminalState.CONNECTED, TerminalState.CONNECTING, TerminalState.DISCONNECTED)
_STATES = {
    "terminal": (*_ON, TerminalState.FAILED),
    "redpanda": _ON,
    "backend": (*_ON, ChannelState.REFUSED),
}


async def figures(bridge: "Bridge") -> Figures:
    """All figures of a bridge whose rooms are open, by the names of `gateway.catalogue`."""
    size, depth = await asyncio.gather(_asked(bridge.journal.size_bytes()), _asked(bridge.journal.outbox_depth()))
    found = _daemon(bridge) | _halt(bridge) | _channels(bridge) | _account(bridge) | _day(bridge)
    found |= _ticks(bridge) | _signals(bridge) | _orders(bridge) | _terminal(bridge)
    found |= _journal(bridge, size, depth)
    return {f"mt5_bridge_{name}": series for name, series in kept(found).items()}


async def _asked(work: Awaitable[T]) -> T | None:
    try:
        async with asyncio.timeout(JOURNAL_S):
            return await work
    except (TimeoutError, JournalError):
        return None


def _daemon(bridge: "Bridge") -> Figures:
    settings, health = bridge.settings, bridge.flows.watch.health()
    process = psutil.Process()
    with process.oneshot():
        memory, cpu = process.memory_info().rss, process.cpu_times()
    what = (__version__, settings.mode, settings.bridge_id, bridge.login_text(), settings.terminal)
    stats = bridge.flows.watch.stats
    return {
        "info": [(what, 1.0)],
        "uptime_seconds": one(health["uptime_s"]),
        "resident_memory_bytes": one(memory),
        "host_resident_memory_bytes": _hosts(bridge),
        "cpu_seconds_total": one(cpu.user + cpu.system),
        "health_state": state_set(map(str, Health), health["status"]),
        "ready": one(float(bridge.flows.book.readiness.why_not is None)),
        "loop_stalls_total": one(stats.stalls),
        "loop_stall_worst_seconds": one(stats.worst_stall_ms / 1000),
    }


def _hosts(bridge: "Bridge") -> list[tuple[Labels, Value]]:
    found: list[tuple[Labels, Value]] = []
    for name, pid in (("live", bridge.terminal.host_pid), ("history", bridge.terminal.history_pid)):
        if pid is not None:
            with suppress(psutil.Error):  # it has just gone
                found.append(((name,), psutil.Process(pid).memory_info().rss))
    return found


def _halt(bridge: "Bridge") -> Figures:
    return {
        "halt_state": state_set(map(str, HaltState), bridge.flows.latch.halt.state.value),
        "halt_durable": one(float(bridge.flows.latch.durable)),
        "emergency_stops_total": one(bridge.flows.emergency.stops),
        "survivors": one(len(bridge.flows.emergency.survivors)),
    }


def _channels(bridge: "Bridge") -> Figures:
    states = bridge.channels
    found: Figures = {
        "channel_up": by_label({name: float(state == "connected") for name, state in states.items()}),
        "channel_state": [
            series for name, state in states.items() for series in state_set(map(str, _STATES[name]), state, name)
        ],
    }
    if bridge.control is not None:
        backend = bridge.control.stats
        found |= {
            "backend_connections_total": one(backend.connections),
            "backend_refusals_total": one(backend.refusals),
            "backend_frames_total": by_label({"in": backend.frames_in, "out": backend.frames_out}),
        }
    if bridge.broker is not None:
        producer = bridge.broker.producer.stats
        found |= {
            "producer_records_total": one(producer.records),
            "producer_batches_total": one(producer.batches),
            "producer_refused_total": one(producer.refused),
            "producer_pending_bytes": one(producer.pending_bytes),
        }
    return found


def _account(bridge: "Bridge") -> Figures:
    book, account = bridge.flows.book, bridge.flows.book.account
    if account is None:
        return {}
    age = max(0, bridge.clock.now_ms() - book.read_msc) / 1000 if book.read_msc else None
    money = {
        "account_balance": account.balance,
        "account_equity": account.equity,
        "account_margin": account.margin,
        "account_free_margin": account.free_margin,
    }
    found: Figures = {name: by_label({account.currency: value}) for name, value in money.items()}
    return found | {
        "account_age_seconds": one(age),
        "positions": one(len(book.positions)),
        "pending_orders": one(len(book.orders)),
    }


def _day(bridge: "Bridge") -> Figures:
    day, account, limits = bridge.flows.book.day_so_far, bridge.flows.book.account, bridge.limits()
    loss = None
    if day is not None and account is not None and day.start_equity > 0:
        loss = max(0.0, (day.start_equity - account.equity) / day.start_equity)
    most = limits.max_daily_loss_pct
    return {
        "day_trades": one(None if day is None else day.trades),
        "day_trades_limit": one(limits.max_daily_trades),
        "day_loss_ratio": one(loss),
        "day_loss_limit_ratio": one(None if most is None else most / 100),
    }


def _ticks(bridge: "Bridge") -> Figures:
    flow, stats = bridge.flows.ticks, bridge.flows.ticks.stats
    newest = stats.last_tick_msc
    found: Figures = {
        "symbols": one(len(flow.symbols)),
        "symbols_missing": one(len(flow.missing)),
        "ticks_published_total": one(stats.published),
        "ticks_resent_total": one(stats.resent),
        "ticks_conflated_total": one(stats.conflated),
        "ticks_unusable_total": one(stats.unusable),
        "tick_gaps_total": one(stats.gaps),
        "tick_polls_total": one(stats.polls),
        "tick_poll_failures_total": one(stats.poll_failures),
        "tick_publish_failures_total": one(stats.failed_publishes),
        "tick_missed_slots_total": one(stats.missed_slots),
        "tick_catch_ups_total": one(stats.catch_ups),
        "last_tick_timestamp_seconds": one(None if newest is None else newest / 1000),
        "tick_age_seconds": one(flow.ages),
    }
    if bridge.flows.bars.on:
        found["bars_published_total"] = one(bridge.flows.bars.stats.published)
        found["bars_corrected_total"] = one(bridge.flows.bars.stats.corrected)
    return found


def _signals(bridge: "Bridge") -> Figures:
    stats = bridge.flows.intake.stats
    consumer = None if bridge.broker is None else bridge.broker.consumer
    lag = {} if consumer is None else consumer.lag
    sources = {REDPANDA: stats.records, WEBSOCKET: stats.frames, "gateway": stats.asked}
    return {
        "signals_received_total": by_label(sources),
        "signals_accepted_total": one(stats.accepted),
        "signals_duplicate_total": one(stats.duplicates),
        "signals_foreign_total": one(stats.foreign),
        "signals_tombstones_total": one(stats.tombstones),
        "dead_letters_total": one(stats.dead_letters),
        "bad_signatures_total": one(stats.bad_signatures),
        "signal_lag_records": by_label({str(partition): behind for partition, behind in sorted(lag.items())}),
    }


def _orders(bridge: "Bridge") -> Figures:
    desk, door = bridge.flows.desk, bridge.flows.intake.stats.denials
    denials = {
        reason: desk.stats.denials.get(reason, 0) + door.get(reason, 0)
        for reason in sorted(desk.stats.denials.keys() | door.keys())
    }
    results = desk.stats.results | ({"denied": sum(denials.values())} if denials else {})
    return {
        "results_total": by_label(results),
        "denials_total": by_label(denials),
        "order_sends_total": one(desk.stats.sends),
        "stops_repaired_total": one(desk.stats.stops_repaired),
        "orders_in_flight": one(len(desk.flying)),
        "unknown_intents": one(len(desk.unresolved)),
        "signal_to_send_seconds": one(desk.to_send),
        "order_send_seconds": one(desk.round_trip),
        "command_seconds": by_label(bridge.flows.answers.seconds),
        "commands_repeated_total": one(bridge.flows.answers.once.repeated),
    }


def _terminal(bridge: "Bridge") -> Figures:
    stats, skew = bridge.terminal.stats, bridge.terminal.clock.skew_ms
    return {
        "terminal_calls_total": one(stats.calls),
        "terminal_failures_total": one(stats.failures),
        "terminal_timeouts_total": one(stats.timeouts),
        "terminal_preempted_total": one(stats.preempted),
        "host_restarts_total": one(max(0, stats.host_starts - 1)),
        "host_deaths_total": one(stats.host_deaths),
        "terminal_reconnects_total": one(stats.reconnects),
        "breaker_trips_total": one(stats.breaker_trips),
        "clock_skew_seconds": one(None if skew is None else skew / 1000),
    }


def _journal(bridge: "Bridge", size: int | None, depth: dict[str, int] | None) -> Figures:
    journal, outbox = bridge.journal, bridge.flows.outbox.stats
    waiting = None if depth is None else {channel: depth.get(channel, 0) for channel in bridge.flows.outbox.channels}
    delivered = {REDPANDA: outbox.delivered_redpanda, WEBSOCKET: outbox.delivered_websocket}
    return {
        "journal_size_bytes": one(size),
        "journal_healthy": one(float(journal.healthy)),
        "journal_pending": one(journal.pending),
        "journal_failures_total": one(journal.stats.failed),
        "journal_commit_seconds": one(journal.seconds),
        "outbox_depth": by_label(waiting or {}),
        "outbox_announced_total": one(outbox.announced),
        "outbox_delivered_total": by_label({channel: delivered[channel] for channel in bridge.flows.outbox.channels}),
        "outbox_held_total": one(outbox.held),
        "outbox_aged_out_total": one(outbox.aged_out),
        "outbox_undeliverable_total": one(outbox.undeliverable),
    }
