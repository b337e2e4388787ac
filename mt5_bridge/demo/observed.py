"""The reference backend's memory: fed with frames, records and what it sent; gives snapshots. No I/O, no clock."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any

import msgspec

from mt5_bridge.client import Frame, Message
from mt5_bridge.demo.signals import Draft, Live, Price, Situation
from mt5_bridge.demo.snapshot import QuoteLine, Seen, SignalLine, Snapshot, Stop

KEPT = 500
"""Signals, latencies and tick ages kept."""
SILENT_AFTER_MS = 3_000
"""A signal that is to be passed over in silence is called so after this long."""
_RATE_SECONDS = 3


class Observed:
    """All bridges of this backend together; the demo has one."""

    def __init__(self) -> None:
        self.bridges: dict[int, dict[str, Any]] = {}
        self._quotes: dict[str, QuoteLine] = {}
        self._tick_times: dict[str, int] = {}
        self._per_second: deque[list[int]] = deque(maxlen=_RATE_SECONDS + 1)
        self._ages: deque[float] = deque(maxlen=KEPT)
        self._signals: OrderedDict[str, SignalLine] = OrderedDict()
        self._silent: dict[str, SignalLine] = {}
        self._live: dict[str, Live] = {}
        self._waiting: dict[str, Live] = {}
        self._latencies: deque[float] = deque(maxlen=KEPT)
        self._events: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._now = Snapshot(at_msc=0, halt={"state": "unknown"})
        self._fates: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._broker_seen_msc: int | None = None
        self._targets: dict[str, str] = {}
        self._handlers: dict[str, Callable[[Any, str | None, str, int], None]] = {
            "tick_data": self._on_tick,
            "order_result": self._on_result,
            "halt_changed": self._on_halt,
            "positions": self._on_positions,
            "position_closed": self._on_position_closed,
            "account_info": self._on_account,
            "heartbeat": self._on_heartbeat,
            "hello": self._on_hello,
            "command_result": self._on_answer,
        }

    def situation(self, now_msc: int) -> Situation:
        """What the demo's "AI" may know."""
        prices = {q.symbol: Price(q.bid, q.ask, q.digits) for q in self._quotes.values()}
        return Situation(
            prices=prices,
            positions=list(self._live.values()),
            pendings=list(self._waiting.values()),
            past_ids=[line.signal_id for line in self._signals.values() if line.fate == "filled"],
            now_msc=now_msc,
        )

    def on_sent(self, draft: Draft, now_msc: int) -> None:
        """A signal was published."""
        self._now.sent += 1
        line = SignalLine(signal_id=draft.signal_id, at_msc=now_msc, intent=draft.intent, bad=draft.bad)
        if draft.target is not None:
            self._targets[draft.signal_id] = draft.target
        if not draft.answered:
            # A duplicate must not disturb the line of the signal whose id it repeats.
            key = f"{draft.signal_id} {self._now.sent}"
            self._silent[key] = self._signals[key] = line
        else:
            self._signals[draft.signal_id] = line
        if len(self._signals) > KEPT:
            self._silent.pop(self._signals.popitem(last=False)[0], None)

    def on_stop_sent(self, now_msc: int) -> None:
        """An operator's stop is on its way."""
        self._now.stop = Stop(asked_msc=now_msc)

    def on_frame(self, frame: Frame, now_msc: int) -> None:
        """A frame of a bridge."""
        self._take(frame.type, frame.data, frame.event_id, "socket", now_msc)

    def on_message(self, message: Message, now_msc: int) -> None:
        """A record of a topic."""
        self._broker_seen_msc = now_msc
        self._take(message.type, message.data, message.event_id, "topics", now_msc)

    def on_dead_letter(self, message: Message, now_msc: int) -> None:
        """A record of the dead letter topic: the oldest malformed one that is waiting."""
        self._broker_seen_msc = now_msc
        self._fates["dead letter"] += 1
        for key, line in self._silent.items():
            if line.bad == "cut in half":
                line.fate = "dead letter"
                line.reason = message.headers.get("reason", b"").decode(errors="replace") or None
                line.round_trip_ms = float(now_msc - line.at_msc)
                del self._silent[key]
                return

    def _take(self, type: str, data: Any, event_id: str | None, channel: str, now_msc: int) -> None:
        handler = self._handlers.get(type)
        if handler is not None and isinstance(data, list if type == "positions" else dict):
            handler(data, event_id, channel, now_msc)

    def _on_positions(self, data: Any, event_id: str | None, channel: str, now_msc: int) -> None:
        self._now.positions = [position for position in data if isinstance(position, dict)]

    def _on_position_closed(self, data: Any, event_id: str | None, channel: str, now_msc: int) -> None:
        self._live.pop(str(data.get("signal_id")), None)

    def _on_account(self, data: Any, event_id: str | None, channel: str, now_msc: int) -> None:
        self._now.account = data

    def _on_heartbeat(self, data: Any, event_id: str | None, channel: str, now_msc: int) -> None:
        self._now.health = data

    def _on_hello(self, data: Any, event_id: str | None, channel: str, now_msc: int) -> None:
        if isinstance(data.get("halt"), dict):
            self._now.halt = data["halt"]

    def _on_tick(self, tick: dict[str, Any], event_id: str | None, channel: str, now_msc: int) -> None:
        self._seen(channel).ticks += 1
        symbol, bid, ask = tick["symbol"], tick["bid"], tick["ask"]
        before = self._quotes.get(symbol)
        digits = max(_decimals(bid), _decimals(ask), before.digits if before else 0)
        self._quotes[symbol] = QuoteLine(
            symbol=symbol,
            bid=bid,
            ask=ask,
            digits=digits,
            spread=tick.get("spread", 0),
            ticks=(before.ticks if before else 0) + 1,
            age_ms=0,
            moved=0 if before is None or before.bid == bid else (1 if bid > before.bid else -1),
        )
        self._tick_times[symbol] = tick["time_msc"]
        self._ages.append(float(now_msc - tick["time_msc"]))
        second = now_msc // 1000
        if not self._per_second or self._per_second[-1][0] != second:
            self._per_second.append([second, 0])
        self._per_second[-1][1] += 1

    def _first_time(self, event_id: str | None, channel: str, also: str) -> bool:
        """Whether this copy of the event is new on its channel (at least once means: maybe twice)."""
        key = (event_id or also, channel)
        if key in self._events:
            return False
        self._events[key] = None
        if len(self._events) > 8 * KEPT:
            self._events.popitem(last=False)
        return True

    def _on_result(self, result: dict[str, Any], event_id: str | None, channel: str, now_msc: int) -> None:
        signal_id, status = str(result.get("signal_id")), str(result.get("status"))
        if not self._first_time(event_id, channel, f"{signal_id} {status}"):
            return
        seen = self._seen(channel)
        seen.fills += status in ("filled", "partial")
        seen.denials += status == "denied"
        if not self._first_time(event_id, "any", f"{signal_id} {status}"):
            return
        self._fates[status] += 1
        if status in ("denied", "rejected"):
            self._reasons[str(result.get("reason"))] += 1
        self._remember(signal_id, status, result)
        line = self._signals.get(signal_id)
        if line is None:
            return
        line.fate, line.reason, line.price = status, result.get("reason"), result.get("price")
        line.latency_ms, line.round_trip_ms = result.get("latency_ms"), float(now_msc - line.at_msc)
        if line.latency_ms is not None and status not in ("denied", "unknown"):
            self._latencies.append(line.latency_ms)

    def _remember(self, signal_id: str, status: str, result: dict[str, Any]) -> None:
        """Keep in mind what can be closed, modified or cancelled later."""
        action, symbol = str(result.get("action")), str(result.get("symbol"))
        opened = Live(signal_id, symbol, action.startswith("BUY"), result.get("price") or 0.0)
        if action in ("BUY", "SELL") and status in ("filled", "partial"):
            self._live[signal_id] = opened
        elif status == "placed":
            self._waiting[signal_id] = opened
        target = self._targets.pop(signal_id, None)
        if target is not None and action in ("CLOSE", "CANCEL"):
            # Whatever the answer was, there is no use in asking again.
            self._live.pop(target, None)
            self._waiting.pop(target, None)

    def _on_halt(self, halt: dict[str, Any], event_id: str | None, channel: str, now_msc: int) -> None:
        if not self._first_time(event_id, channel, f"{halt.get('at')} {halt.get('phase')}"):
            return
        self._seen(channel).halts += 1
        self._now.halt = {k: halt.get(k) for k in ("state", "reason", "by", "at", "phase")}
        if halt.get("state") != "halted":
            return
        stop = self._now.stop
        if halt.get("phase") == "latched":
            stop.latched_on = sorted({*stop.latched_on, channel})
            stop.asked_msc = stop.asked_msc or now_msc
        elif halt.get("phase") == "done":
            stop.done_on = sorted({*stop.done_on, channel})
            stop.done_ms = stop.done_ms or float(now_msc - (stop.asked_msc or now_msc))
        for name in ("cancelled", "closed", "survivors"):
            setattr(stop, name, halt.get(name) or getattr(stop, name))

    def _on_answer(self, result: dict[str, Any], event_id: str | None, channel: str, now_msc: int) -> None:
        if result.get("command") != "emergency_stop":
            return
        stop = self._now.stop
        stop.answer = result.get("data") if result.get("success") else {"error": result.get("error")}
        stop.answer_ms = float(now_msc - (stop.asked_msc or now_msc))
        if result.get("success") and isinstance(stop.answer, dict):
            self._now.halt = {**self._now.halt, **{k: stop.answer.get(k) for k in ("state", "reason", "by", "at")}}

    def _seen(self, channel: str) -> Seen:
        return self._now.topics if channel == "topics" else self._now.socket

    def snapshot(self, now_msc: int) -> Snapshot:
        """Everything at this moment."""
        self._name_the_silent(now_msc)
        for quote in self._quotes.values():
            quote.age_ms = max(0, now_msc - self._tick_times[quote.symbol])
        full = [
            count for second, count in self._per_second if now_msc // 1000 - _RATE_SECONDS <= second < now_msc // 1000
        ]
        return msgspec.structs.replace(
            self._now,
            at_msc=now_msc,
            bridges=list(self.bridges.values()),
            quotes=sorted(self._quotes.values(), key=lambda quote: quote.symbol),
            ticks_per_s=sum(full) / _RATE_SECONDS,
            tick_age_p50_ms=_share(self._ages, 0.50),
            tick_age_p99_ms=_share(self._ages, 0.99),
            broker_seen_ms=None if self._broker_seen_msc is None else now_msc - self._broker_seen_msc,
            signals=list(reversed(self._signals.values()))[:50],
            fates=dict(self._fates),
            reasons=dict(self._reasons),
            latency_p50_ms=_share(self._latencies, 0.50),
            latency_p99_ms=_share(self._latencies, 0.99),
        )

    def _name_the_silent(self, now_msc: int) -> None:
        for key, line in list(self._silent.items()):
            if now_msc - line.at_msc >= SILENT_AFTER_MS:
                line.fate = "passed over"
                self._fates["passed over"] += 1
                del self._silent[key]


def _decimals(price: float) -> int:
    text = repr(price)
    return len(text.partition(".")[2].rstrip("0")) if "e" not in text else 8


def _share(values: deque[float], share: float) -> float | None:
    """The value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
