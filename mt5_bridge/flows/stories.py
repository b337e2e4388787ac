"""What the journal knows of signals, as answers to commands tell it."""

from typing import Any

import msgspec

from mt5_bridge.core.times import iso
from mt5_bridge.journal.rows import SignalStory, StoredCorrection, StoredIntent, StoredSignal


def signal_row(signal: StoredSignal) -> dict[str, Any]:
    """One line of the list of signals; `status` is null until the final result."""
    result = _data(signal.result)
    return {
        "signal_id": signal.signal_id,
        "source": signal.source,
        "symbol": signal.symbol,
        "action": signal.action,
        "received_at": iso(signal.received_msc),
        "status": signal.status,
        "reason": signal.reason,
        **{name: result.get(name) for name in ("detail", "price", "volume_filled", "latency_ms", "strategy")},
    }


def story_data(story: SignalStory) -> dict[str, Any]:
    """A signal's whole life: as it came, its orders, its result, corrections, and what still waits to be told."""
    signal = story.signal
    return {
        **signal_row(signal),
        "key": signal.key,
        "account": signal.account or None,
        "topic": signal.topic or None,
        "partition": signal.partition if signal.topic else None,
        "offset": signal.offset if signal.topic else None,
        "request_id": signal.request_id,
        "sender": signal.sender,
        "correlation": signal.correlation,
        "event_id": signal.event_id,
        "settled_at": None if signal.settled_msc is None else iso(signal.settled_msc),
        "result": _data(signal.result) or None,
        "intents": [_intent(intent) for intent in story.intents],
        "corrections": [_correction(correction) for correction in story.corrections],
        "waiting": [{"channel": channel, "type": row.type, "since": iso(row.at_msc)} for channel, row in story.events],
    }


def _intent(intent: StoredIntent) -> dict[str, Any]:
    told = {name: getattr(intent, name) for name in intent.__struct_fields__}
    del told["key"]
    return told | {
        "request": _json(intent.request),
        "opened_at": iso(told.pop("opened_msc")),
        "moved_at": iso(told.pop("moved_msc")),
    }


def _correction(correction: StoredCorrection) -> dict[str, Any]:
    return {
        "event_id": correction.event_id,
        "supersedes": correction.supersedes,
        "status": correction.status,
        "reason": correction.reason,
        "at": iso(correction.at_msc),
        "result": _data(correction.result) or None,
    }


def _data(payload: bytes | None) -> dict[str, Any]:
    """The data of a stored message: an envelope, or its data alone."""
    message = _json(payload)
    data = message.get("data", message) if isinstance(message, dict) else {}
    return data if isinstance(data, dict) else {}


def _json(payload: bytes | None) -> Any:
    if not payload:
        return None
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
