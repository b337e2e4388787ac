"""How the demo looks: a live picture in a terminal, lines without one, and the summary at the end."""

import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from mt5_bridge.core.times import iso
from mt5_bridge.demo.snapshot import SignalLine, Snapshot, proven

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

_LINE_EVERY = 1.0
_GOOD = {"filled", "partial", "placed", "modified", "closed", "cancelled", "simulated"}
_STYLES = {"denied": "yellow", "rejected": "red", "unknown": "red", "dead letter": "magenta", "waiting": "dim"}
_MONEY = ("balance", "equity", "profit", "margin", "free_margin")
_FIXED_ROWS = 12
"""Rows of the picture that are always there: title, states, account, rules, headings, hint."""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to show. Times in seconds; `hint` is the command that stops the bridge, `page` the dashboard."""

    seen: Snapshot
    elapsed: float
    duration: float | None
    hint: str
    page: str = ""


class Display(Protocol):
    """Shows scenes."""

    def show(self, scene: Scene) -> None: ...


@contextmanager
def display(*, plain: bool) -> Iterator[Display]:
    """The live picture, or plain lines once a second."""
    if plain:
        yield _Lines()
        return
    # rich is loaded only here: who asks for lines does not pay for it.
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        yield _Picture(console, live)


class _Lines:
    def __init__(self) -> None:
        self._next = 0.0

    def show(self, scene: Scene) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _LINE_EVERY
            sys.stdout.write(line(scene) + "\n")
            sys.stdout.flush()


class _Picture:
    def __init__(self, console: "Console", live: Any) -> None:
        self._console = console
        self._live = live
        self._last_msc = -1
        self._next = 0.0

    def show(self, scene: Scene) -> None:
        now = time.monotonic()
        if scene.seen.at_msc == self._last_msc and now < self._next:
            return
        self._last_msc, self._next = scene.seen.at_msc, now + 0.25
        self._live.update(picture(scene, self._console.width, self._console.height), refresh=True)


def line(scene: Scene) -> str:
    """One line of text."""
    seen = scene.seen
    fates = " ".join(f"{fate}={count}" for fate, count in sorted(seen.fates.items()))
    parts = [
        _clock(scene.elapsed),
        f"trading={seen.halt.get('state', 'unknown')}",
        f"ticks={seen.topics.ticks} ({seen.ticks_per_s:.0f}/s, age {_ms(seen.tick_age_p50_ms)})",
        f"signals={seen.sent} {fates}".rstrip(),
        f"positions={len(seen.positions)}",
        f"equity={_money(seen.account, 'equity')}",
        f"backend={'connected' if seen.bridges else 'no bridge'}",
    ]
    return "  ".join(parts)


def picture(scene: Scene, width: int, height: int) -> "RenderableType":
    """The whole screen, fitted to its size."""
    from rich.console import Group

    seen = scene.seen
    quotes = max(len(_MONEY), len(seen.quotes))
    folded = len(scene.hint) // max(1, width - 2)
    if scene.page:
        folded += 1 + (len(scene.page) + 12) // max(1, width - 2)
    room = max(2, height - _FIXED_ROWS - quotes - folded)
    positions = min(max(1, len(seen.positions)), max(1, room // 3))
    return Group(
        _title(scene, width),
        _trading(seen, width),
        _channels(seen),
        _rule("Quotes", "Account"),
        _quotes_and_account(seen),
        _rule(f"Signals: {seen.sent} sent (✗ bad on purpose)", _fates(seen)),
        _signals(seen.signals[: room - positions], width),
        _rule(f"Positions: {len(seen.positions)}"),
        _positions(seen.positions[-positions:]),
        _rule("Emergency stop: from a second shell"),
        _text(f" {scene.hint}", "bold", wrap=True),
        *([_text(f" Dashboard: {scene.page}", "bold", wrap=True)] if scene.page else []),
        _text(" Ctrl+C ends the demo and everything it started.", "dim"),
    )


def _text(text: str, style: str = "", *, wrap: bool = False) -> "Text":
    from rich.text import Text

    return Text(text, style=style, no_wrap=not wrap, overflow="fold" if wrap else "ellipsis")


def _pair(left: "Text", right: "Text") -> "Table":
    from rich.table import Table

    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(left, right)
    return grid


def _title(scene: Scene, width: int) -> "Table":
    end = f" of {_clock(scene.duration)}" if scene.duration else ""
    where = "paper terminal → bridge → broker + backend" if width >= 100 else "all on paper"
    return _pair(_text(f" MT5 Bridge demo: {where}", "bold"), _text(f"{_clock(scene.elapsed)}{end} ", "bold"))


def _trading(seen: Snapshot, width: int) -> "Table":
    state = str(seen.halt.get("state", "unknown"))
    by, reason = seen.halt.get("by"), seen.halt.get("reason")
    why = f" by {by}: {reason}" if state != "active" and (by or reason) else ""
    styles = {"active": "black on green", "reducing": "black on yellow", "halted": "white on red"}
    left = _text(" Trading ")
    left.append(f" {state.upper()} ", styles.get(state, "dim")).append(why)
    stop = seen.stop
    told = ""
    if stop.answer_ms is not None:
        told = f"answered in {_ms(stop.answer_ms)} "
    if stop.done_ms is not None:
        answered = "" if stop.answer_ms is None else f"stop: {_ms(stop.answer_ms)}, "
        told = f"{answered}flat: {_ms(stop.done_ms)} "
        if width >= 100:
            told += f"({len(stop.closed)} closed, {len(stop.cancelled)} cancelled) "
    return _pair(left, _text(told, "bold"))


def _channels(seen: Snapshot) -> "Text":
    health = seen.health or {}
    channels = health.get("channels") or {}
    text = _text(" ")
    _light(text, seen.broker_seen_ms is not None and seen.broker_seen_ms < 2000, "Redpanda")
    text.append(
        f" {seen.ticks_per_s:.0f} ticks/s, age {_ms(seen.tick_age_p50_ms)} (99%: {_ms(seen.tick_age_p99_ms)})   ", "dim"
    )
    _light(text, bool(seen.bridges), "WebSocket")
    text.append(f" {health.get('status', 'no bridge yet')}   ", "dim")
    terminal = channels.get("terminal")
    terminal = terminal.get("state") if isinstance(terminal, dict) else terminal
    _light(text, terminal in ("connected", True), "Terminal")
    return text


def _light(text: "Text", on: bool, name: str) -> None:
    text.append("● " if on else "○ ", "green" if on else "red").append(name)


def _rule(left: str, right: str = "") -> "Table":
    grid = _pair(_text(f" {left}", "bold cyan"), _text(f"{right} ", "bold cyan"))
    grid.style = "on grey15"
    return grid


def _plain_table(*columns: tuple[str, str]) -> "Table":
    """Columns given as (heading, `left`/`right`); no borders: rows are dear."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), show_edge=False, header_style="dim", pad_edge=True)
    for heading, side in columns:
        table.add_column(heading, justify="right" if side == "right" else "left", no_wrap=True, overflow="ellipsis")
    return table


def _quotes_and_account(seen: Snapshot) -> "Table":
    from rich.table import Table

    quotes = _plain_table(
        ("", "left"), ("bid", "right"), ("ask", "right"), ("spread", "right"), ("ticks", "right"), ("age", "right")
    )
    for quote in seen.quotes:
        arrow = {1: ("▲", "green"), -1: ("▼", "red")}.get(quote.moved, (" ", ""))
        name = _text(f"{quote.symbol} ").append(*arrow)
        prices = [f"{price:.{quote.digits}f}" for price in (quote.bid, quote.ask)]
        quotes.add_row(name, *prices, str(quote.spread), str(quote.ticks), _age(quote.age_ms))
    if not seen.quotes:
        quotes.add_row(_text("waiting for the first tick …", "dim"))
    account = _plain_table(("", "left"), (str((seen.account or {}).get("currency", "")), "right"))
    for field in _MONEY:
        account.add_row(field.replace("_", " "), _money(seen.account, field))
    both = Table.grid(expand=True)
    both.add_column(ratio=1)
    both.add_column(justify="right")
    both.add_row(quotes, account)
    return both


def _fates(seen: Snapshot) -> str:
    return "  ".join(f"{count} {fate}" for fate, count in sorted(seen.fates.items(), key=lambda item: -item[1])[:4])


def _signals(signals: Sequence[SignalLine], width: int) -> "Table":
    table = _plain_table(("time", "left"), ("signal", "left"), ("what became of it", "left"), ("latency", "right"))
    table.expand = True
    table.columns[2].ratio = 1
    for signal in signals:
        intent = _text(signal.intent)
        if signal.bad:
            intent.append(f"  ✗ {signal.bad}", "red")
        told = signal.fate
        if signal.reason:
            told += f": {signal.reason}"
        elif signal.price:
            told += f" at {signal.price:g}"
        style = "green" if signal.fate in _GOOD else _STYLES.get(signal.fate, "dim")
        table.add_row(iso(signal.at_msc)[11:19], intent, _text(told, style), _ms(signal.latency_ms))
    return table


def _positions(positions: Sequence[dict[str, Any]]) -> "Table":
    table = _plain_table(
        ("ticket", "right"), ("", "left"), ("", "left"), ("lots", "right"), ("opened at", "right"), ("now", "right"),
        ("stop", "right"), ("profit", "right"),
    )  # fmt: skip
    for p in reversed(positions):
        profit = p.get("profit") or 0.0
        numbers = [f"{p.get(name) or 0:g}" for name in ("volume", "price_open", "price_current", "stop_loss")]
        colour = "green" if profit > 0 else "red" if profit < 0 else ""
        table.add_row(
            str(p.get("ticket")), str(p.get("side")), str(p.get("symbol")), *numbers, _text(f"{profit:+.2f}", colour)
        )
    if not positions:
        table.add_row(_text("none", "dim"))
    return table


def summary(seen: Snapshot, width: int = 100, *, all_due: bool = True) -> str:
    """What happened, for people, after the picture is gone.

    Args:
        seen: the last snapshot.
        width: columns.
        all_due: what was not seen is a failure, and not just not tried.
    """
    stop = seen.stop
    age = f"{_ms(seen.tick_age_p50_ms)} (99%: {_ms(seen.tick_age_p99_ms)})"
    currency = (seen.account or {}).get("currency", "")
    rows = [
        ("ticks", f"{seen.topics.ticks} on the topic, age {age}"),
        (
            "signals",
            f"{seen.sent} sent: " + (", ".join(f"{n} {fate}" for fate, n in sorted(seen.fates.items())) or "-"),
        ),
        ("denials", ", ".join(f"{reason} {n}" for reason, n in sorted(seen.reasons.items())) or "none"),
        (
            "latency",
            f"{_ms(seen.latency_p50_ms)} (99%: {_ms(seen.latency_p99_ms)}), signal at the bridge to its result",
        ),
        ("account", f"equity {_money(seen.account, 'equity')} {currency}".rstrip()),
    ]
    if stop.answer_ms is not None or stop.latched_on:
        flat = f"flat in {_ms(stop.done_ms)}"
        if stop.answer_ms is not None:
            flat = f"answered in {_ms(stop.answer_ms)}, {flat}"
        left = f"{len(stop.closed)} closed, {len(stop.cancelled)} cancelled, {len(stop.survivors)} left"
        rows.append(("stop", f"{flat}: {left}"))
    lines = ["", "What happened"]
    for name, text in rows:
        lines += textwrap.wrap(text, width, initial_indent=f"  {name:<9}", subsequent_indent=" " * 11)
    lines.append("Really seen, on the topics and on the socket")
    no = "NO " if all_due else " - "
    lines += [f"  {'yes' if yes else no}  {what}" for what, yes in proven(seen).items()]
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f} ms" if abs(value) < 10 else f"{value:.0f} ms"


def _age(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms // 1000} s"


def _money(account: dict[str, Any] | None, name: str) -> str:
    value = (account or {}).get(name)
    return f"{value:,.2f}" if isinstance(value, int | float) else "-"
