"""A signal's life as an answer tells it."""

import msgspec
import pytest

from mt5_bridge.flows.stories import signal_row, story_data
from mt5_bridge.journal.rows import OutboxRow, SignalStory, StoredCorrection, StoredIntent, StoredSignal

SIGNAL = StoredSignal(
    key="k", signal_id="s1", source="redpanda", topic="trading_signals", partition=2, offset=7, account="5",
    symbol="EURUSD", action="BUY", payload=b"{}", received_msc=1_700_000_000_123, status="filled", reason=None,
    event_id="e", result=b'{"data": {"status": "filled", "price": 1.1, "latency_ms": 3.5}}',
    settled_msc=1_700_000_001_000,
)  # fmt: skip
INTENT = StoredIntent(
    magic=99, key="k", leg=0, symbol="EURUSD", action="BUY", request=b'{"price": 1.1}', state="filled",
    opened_msc=1_700_000_000_124, moved_msc=1_700_000_000_130, volume=0.1, risk=12.5, retcode=10009, order=5, deal=6,
    position=5, filled_volume=0.1, price=1.1, detail=None,
)  # fmt: skip


def test_from_its_coming_to_what_still_waits() -> None:
    fix = StoredCorrection("e2", "e", "abandoned", "why", b'{"status": "abandoned"}', 1_700_000_002_000)
    waits = ("redpanda", OutboxRow(1, "e2", "order_result", "5", b"{}", 1_700_000_002_000))
    told = story_data(SignalStory(SIGNAL, [INTENT], [fix], [waits]))
    assert (told["received_at"], told["settled_at"]) == ("2023-11-14T22:13:20.123Z", "2023-11-14T22:13:21.000Z")
    assert (told["price"], told["latency_ms"], told["offset"]) == (1.1, 3.5, 7)
    [intent] = told["intents"]
    assert (intent["request"], intent["opened_at"]) == ({"price": 1.1}, "2023-11-14T22:13:20.124Z")
    assert "key" not in intent
    assert told["corrections"][0]["result"] == {"status": "abandoned"}
    assert told["waiting"] == [{"channel": "redpanda", "type": "order_result", "since": "2023-11-14T22:13:22.000Z"}]


@pytest.mark.parametrize("result", [None, b"", b"not json", b"[1]", b'{"data": 5}'])
def test_a_result_that_says_nothing(result: bytes | None) -> None:
    signal = msgspec.structs.replace(SIGNAL, result=result, status=None, settled_msc=None, topic="", account="")
    row = signal_row(signal)
    assert (row["status"], row["price"]) == (None, None)
    told = story_data(SignalStory(signal, [], [], []))
    assert {told[name] for name in ("topic", "partition", "offset", "account", "settled_at", "result")} == {None}
