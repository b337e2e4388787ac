"""What a running bridge says of itself: to a backend that it meets, and to whoever asks how it is."""

from typing import TYPE_CHECKING, Any

import msgspec

from mt5_bridge import __version__
from mt5_bridge.app import rooms
from mt5_bridge.control.commands import capabilities
from mt5_bridge.core import wire
from mt5_bridge.core.usage import Usage, usage
from mt5_bridge.flows.shapes import halt_data

if TYPE_CHECKING:
    from mt5_bridge.app.bridge import Bridge


def hello(bridge: "Bridge") -> bytes:
    """The first frame of a connection to the backend."""
    settings, flows, login = bridge.settings, bridge.flows, bridge.login_text()
    data = {
        "bridge_id": settings.bridge_id,
        "version": __version__,
        "mode": settings.mode,
        "account": int(login) if login else None,
        "symbols": list(flows.ticks.symbols) or list(settings.symbols),
        "halt": halt_data(flows.latch.halt),
        "capabilities": capabilities(rooms.permissions(settings)),
    }
    return wire.encode("hello", data, now_msc=bridge.clock.now_ms())


def status(bridge: "Bridge") -> dict[str, Any]:
    """The health report of `mt5-bridge status` and `get_status`."""
    settings, flows, terminal = bridge.settings, bridge.flows, bridge.terminal
    return {
        **flows.watch.health(),
        "bridge_id": settings.bridge_id,
        "version": __version__,
        "mode": settings.mode,
        "account": bridge.login(),
        "halt_detail": halt_data(flows.latch.halt),
        "symbols": list(flows.ticks.symbols),
        "symbols_missing": dict(flows.ticks.missing),
        "positions": len(flows.book.positions),
        "orders": len(flows.book.orders),
        "unknown_intents": len(flows.desk.unresolved),
        "survivors": list(flows.emergency.survivors),
        "managed_stops": len(flows.desk.plans.open),
        "limits": msgspec.to_builtins(_usage(bridge)),
        "bars": flows.bars.status() if flows.bars.on else None,
        "trading_enabled": settings.trading_enabled,
        "simulation_mode": settings.simulation_mode,
        "journal_healthy": bridge.journal.healthy,
        "gateway": None if bridge.gateway is None else bridge.gateway.url,
        "counters": {
            "ticks": flows.ticks.stats.published,
            "missed_slots": flows.ticks.stats.missed_slots,
            "tick_path": msgspec.to_builtins(flows.ticks.stats),
            "signals": msgspec.to_builtins(flows.intake.stats),
            "orders": msgspec.to_builtins(flows.desk.stats),
            "denials": dict(flows.judge.denials),
            "commands": msgspec.to_builtins(flows.control.stats),
            "backend": None if bridge.control is None else msgspec.to_builtins(bridge.control.stats),
            "terminal": msgspec.to_builtins(terminal.stats),
            "host_restarts": max(0, terminal.stats.host_starts - 1),
            "loop_stalls": flows.watch.stats.stalls,
        },
    }


def _usage(bridge: "Bridge") -> tuple[Usage, ...]:
    book = bridge.flows.book
    return usage(
        bridge.limits(), book.day_so_far, book.account, book.listed_positions, book.listed_orders, book.in_flight()
    )
