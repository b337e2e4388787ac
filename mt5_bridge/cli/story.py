"""Tells in words what happened to a signal."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from mt5_bridge.journal.rows import SignalStory, StoredIntent

_MOVES = {"trailing_stop": "to follow the price", "break_even": "to break even"}


def tell(story: SignalStory) -> list[str]:
    """The signal's life, one line a step; times are UTC."""
    return [*_received(story), *_orders(story), *_settled(story), *_announced(story)]


def _received(story: SignalStory) -> Iterator[str]:
    signal = story.signal
    place = f" ({signal.topic}, partition {signal.partition}, offset {signal.offset})" if signal.topic else ""
    sender = f" by {signal.sender}" if signal.sender and signal.sender not in signal.source else ""
    yield f"{_time(signal.received_msc)}  Received {signal.action} {signal.symbol} from {signal.source}{place}{sender}"
    if signal.correlation:
        yield f"    HTTP request {signal.correlation}"
    if signal.request_id is not None:
        yield f"    request_id {signal.request_id}"
    if signal.account:
        yield f"    for account {signal.account}"
    yield f"    key {signal.key}"


def _orders(story: SignalStory) -> Iterator[str]:
    for intent in story.intents:
        yield f"{_time(intent.opened_msc)}  Intent {_numbered(intent)}: {_deed(intent)}"
        if intent.risk:
            yield f"    risking {intent.risk:.2f} in account currency"
        yield f"{_time(intent.moved_msc)}  {_outcome(intent)}"


def _deed(intent: StoredIntent) -> str:
    why = _MOVES.get(intent.action)
    if why is None:
        return f"{intent.action} {intent.symbol} {intent.volume:g} lots"
    return f"stop of {intent.symbol} to {_field(intent.request, 'stop_loss')} {why}"


def _numbered(intent: StoredIntent) -> str:
    leg = f", leg {intent.leg}" if intent.leg else ""
    return f"with magic {intent.magic}{leg}"


def _outcome(intent: StoredIntent) -> str:
    words = {
        "sending": "On its way to the terminal: the outcome is not known yet",
        "unknown": "The terminal's answer is missing: it is being looked up, and never sent again blindly",
        "abandoned": "Not found in the terminal within the settle window",
        "simulated": "Not sent: SIMULATION_MODE",
    }
    facts = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in (
            ("volume", intent.filled_volume),
            ("price", intent.price),
            ("order", intent.order),
            ("deal", intent.deal),
            ("position", intent.position),
            ("retcode", intent.retcode),
        )
        if value
    ]
    text = words.get(intent.state, intent.state.capitalize())
    if facts:
        text += f": {', '.join(facts)}"
    return f"{text} ({intent.detail})" if intent.detail else text


def _settled(story: SignalStory) -> Iterator[str]:
    signal = story.signal
    if signal.status is None or signal.settled_msc is None:
        yield "    no final result yet"
        return
    reason = f", reason {signal.reason}" if signal.reason else ""
    yield f"{_time(signal.settled_msc)}  Result: {signal.status}{reason}"
    detail = _field(signal.result, "detail")
    if detail:
        yield f"    {detail}"
    for correction in story.corrections:
        yield f"{_time(correction.at_msc)}  Corrected: {correction.status} {correction.reason}".rstrip()


def _announced(story: SignalStory) -> Iterator[str]:
    for channel, row in story.events:
        yield f"    {row.type} still waits for {channel}"
    if story.signal.status is not None and not story.events:
        yield "    all its events were delivered, or aged out"


def _field(payload: bytes | None, name: str) -> Any:
    """A field of a stored message: an envelope or its data alone."""
    if not payload:
        return None
    try:
        message = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return None
    data = message.get("data", message) if isinstance(message, dict) else {}
    return data.get(name) if isinstance(data, dict) else None


def _time(msc: int) -> str:
    return datetime.fromtimestamp(msc / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
