"""What the page shows, as a value: fed with the frames of the stream, gives pictures and patches. No I/O, no clock."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any

from mt5_bridge.dashboard.report import StopReport

KEPT_SIGNALS = 500
KEPT_EVENTS = 500
KEPT_POINTS = 3600
"""An hour of the equity curve at a point a second."""
TRAIL_S = 90
"""The last prices of each symbol, one a second."""
_FROM_RESULT = (
    "signal_id", "status", "reason", "detail", "symbol", "action", "volume_requested", "volume_filled", "price",
    "latency_ms", "strategy", "position", "order", "received_at", "done_at", "stop_loss", "take_profit",
)  # fmt: skip
_EVENTS = (
    "order_result", "position_opened", "position_closed", "pending_changed", "halt_changed", "connection_status",
)  # fmt: skip
_RULES = ("digits", "point", "volume_step", "volume_min", "currency_profit")


class Board:
    """Everything of one bridge.

    Attributes:
        symbols: what the bridge streams.
    """

    def __init__(self) -> None:
        self.symbols: list[str] = []
        self.report = StopReport()
        self._sections: dict[str, Any] = {
            "link": {"state": "connecting", "detail": ""},
            "bridge": {},
            "halt": {"state": "unknown"},
            "stop": None,
            "health": None,
            "limits": [],
            "account": None,
            "positions": [],
            "orders": [],
            "symbols": {},
        }
        self._ticks: dict[str, list[Any]] = {}
        self._trails: dict[str, deque[list[Any]]] = {}
        self._signals: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT_EVENTS)
        self._event_ids: OrderedDict[str, None] = OrderedDict()
        self._equity: deque[list[float]] = deque(maxlen=KEPT_POINTS)
        self._rate: deque[list[Any]] = deque(maxlen=KEPT_POINTS // 2)
        self._published: tuple[int, int] | None = None
        self._dirty: set[str] = set()
        self._new: dict[str, list[Any]] = {}
        self._new_ticks: dict[str, list[Any]] = {}
        self._number = 0
        self._handlers: dict[str, Callable[[Any, int], None]] = {
            "welcome": self._on_welcome,
            "tick_data": self._on_tick,
            "account_info": self._on_account,
            "positions": self._on_positions,
            "heartbeat": self._on_heartbeat,
        }

    # --- what comes in

    def take(self, type: str, data: Any, event_id: str | None, now_msc: int) -> None:
        """A frame of the stream."""
        handler = self._handlers.get(type)
        if handler is not None and isinstance(data, list if type == "positions" else dict):
            handler(data, now_msc)
        elif type in _EVENTS and isinstance(data, dict) and self._first_time(event_id):
            self._on_event(type, data, now_msc)

    def linked(self, state: str, detail: str, now_msc: int) -> None:
        """The stream's own state."""
        self._set("link", {"state": state, "detail": detail, "since": now_msc})

    def status(self, status: dict[str, Any], now_msc: int) -> None:
        """An answer to `get_status`."""
        self._set("limits", status.get("limits") or [])
        halt = status.get("halt_detail")
        if isinstance(halt, dict):
            self._halt(halt)
        counters = status.get("counters") or {}
        ticks = counters.get("ticks")
        if isinstance(ticks, int):
            self._count(ticks, status, now_msc)
        self._on_heartbeat(status, now_msc)

    def _count(self, ticks: int, status: dict[str, Any], now_msc: int) -> None:
        before, self._published = self._published, (now_msc, ticks)
        if before is None or now_msc <= before[0] or ticks < before[1]:
            return
        per_second = round((ticks - before[1]) / (now_msc - before[0]) * 1000, 1)
        self._append("rate", self._rate, [now_msc, per_second, status.get("tick_age_ms")])

    def orders(self, orders: list[dict[str, Any]]) -> None:
        """An answer to `get_orders`."""
        self._set("orders", orders)

    def rules(self, symbols: Iterable[dict[str, Any]]) -> None:
        """Answers to `get_symbols`; those not shown are left out."""
        wanted = set(self.symbols) | {str(p.get("symbol")) for p in self._sections["positions"]}
        found = {s["name"]: {k: s.get(k) for k in _RULES} for s in symbols if s.get("name") in wanted}
        self._set("symbols", {**self._sections["symbols"], **found})

    def history(self, rows: Iterable[dict[str, Any]]) -> None:
        """Answers to `get_signals`, newest first: what was before we looked."""
        for row in reversed(list(rows)):
            known = self._signals.get(str(row.get("signal_id")))
            if known is None or known.get("status") in (None, "unknown"):
                self._signal({**row, "done_at": row.get("received_at")})

    def stop_asked(self, by: str, now_msc: int) -> None:
        """Somebody pressed the button here."""
        self.report = StopReport.asked(by, self._sections["positions"], self._sections["orders"], now_msc)
        self._set("stop", self.report.told())

    def stop_answered(self, answer: dict[str, Any], now_msc: int) -> None:
        """The `command_result` of the stop, or why there is none."""
        self.report.answered(answer, now_msc)
        self._set("stop", self.report.told())
        data = answer.get("data")
        if answer.get("success") and isinstance(data, dict):
            self._halt(data)

    # --- what goes out

    def full(self, now_msc: int) -> dict[str, Any]:
        """The whole picture."""
        return {
            "t": now_msc,
            "full": True,
            **self._sections,
            "trails": {symbol: list(trail) for symbol, trail in self._trails.items()},
            "ticks": self._ticks,
            "signals+": list(self._signals.values()),
            "events+": list(self._events),
            "equity+": list(self._equity),
            "rate+": list(self._rate),
        }

    def patch(self, now_msc: int) -> dict[str, Any]:
        """What changed since the last patch; only the time when nothing did."""
        told: dict[str, Any] = {"t": now_msc, **{name: self._sections[name] for name in self._dirty}}
        told.update((f"{name}+", rows) for name, rows in self._new.items())
        if self._new_ticks:
            told["ticks"] = self._new_ticks
        self._dirty, self._new, self._new_ticks = set(), {}, {}
        return told

    # --- by type

    def _on_welcome(self, data: dict[str, Any], now_msc: int) -> None:
        self.symbols = [str(name) for name in data.get("symbols") or []]
        names = ("service", "version", "bridge_id", "account", "symbols", "scopes", "capabilities", "heartbeat_s")
        self._set("bridge", {name: data.get(name) for name in names})
        halt = data.get("halt")
        if isinstance(halt, dict):
            self._halt(halt)

    def _on_tick(self, tick: dict[str, Any], now_msc: int) -> None:
        symbol = str(tick.get("symbol"))
        row = [tick.get("bid"), tick.get("ask"), tick.get("spread"), tick.get("time_msc"), now_msc]
        self._ticks[symbol] = self._new_ticks[symbol] = row
        trail = self._trails.setdefault(symbol, deque(maxlen=TRAIL_S))
        if trail and trail[-1][0] == now_msc // 1000:
            trail[-1][1] = row[0]
        else:
            trail.append([now_msc // 1000, row[0]])

    def _on_account(self, account: dict[str, Any], now_msc: int) -> None:
        self._set("account", account)
        if not self._equity or now_msc - self._equity[-1][0] >= 1000:
            self._append("equity", self._equity, [now_msc, account.get("equity"), account.get("balance")])

    def _on_positions(self, positions: list[Any], now_msc: int) -> None:
        self._set("positions", [position for position in positions if isinstance(position, dict)])

    def _on_heartbeat(self, health: dict[str, Any], now_msc: int) -> None:
        names = ("status", "detail", "channels", "tick_age_ms", "clock_skew_ms", "rss_mb", "loop_stall_ms", "uptime_s")
        self._set("health", {name: health.get(name) for name in names} | {"at": now_msc})

    def _on_event(self, type: str, data: dict[str, Any], now_msc: int) -> None:
        if type == "order_result":
            self._signal({name: data.get(name) for name in _FROM_RESULT})
        elif type == "halt_changed":
            self._halt(data)
            # A stop pressed elsewhere is told here as well.
            if self.report.changed(data, self._sections["positions"], self._sections["orders"], now_msc):
                self._set("stop", self.report.told())
        self._number += 1
        self._append("events", self._events, {"n": self._number, "type": type, "at": now_msc, "data": data})

    def _signal(self, row: dict[str, Any]) -> None:
        signal_id = str(row.get("signal_id") or row.get("request_id") or f"?{self._number}")
        row["signal_id"] = signal_id
        self._signals.pop(signal_id, None)
        self._signals[signal_id] = row
        if len(self._signals) > KEPT_SIGNALS:
            self._signals.popitem(last=False)
        self._new.setdefault("signals", []).append(row)

    def _halt(self, data: dict[str, Any]) -> None:
        self._set("halt", {name: data.get(name) for name in ("state", "reason", "by", "at")})

    def _first_time(self, event_id: str | None) -> bool:
        if event_id is None:
            return True
        if event_id in self._event_ids:
            return False
        self._event_ids[event_id] = None
        if len(self._event_ids) > 4 * KEPT_EVENTS:
            self._event_ids.popitem(last=False)
        return True

    def _append(self, name: str, kept: deque[Any], row: Any) -> None:
        kept.append(row)
        self._new.setdefault(name, []).append(row)

    def _set(self, name: str, value: Any) -> None:
        if self._sections[name] != value:
            self._sections[name] = value
            self._dirty.add(name)
