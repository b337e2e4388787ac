"""A signal's life in words."""

import msgspec
import pytest

from mt5_bridge.cli.story import tell
from mt5_bridge.journal.rows import OutboxRow, SignalStory, StoredCorrection, StoredIntent, StoredSignal

SIGNAL = StoredSignal(
    key="k", signal_id="s1", source="redpanda", topic="trading_signals", partition=2, offset=7, account="5000001",
    symbol="EURUSD", action="BUY", payload=b"{}", received_msc=1_700_000_000_123, status=None, reason=None,
    event_id=None, result=None, settled_msc=None,
)  # fmt: skip
INTENT = StoredIntent(
    magic=99, key="k", leg=0, symbol="EURUSD", action="BUY", request=b"{}", state="filled",
    opened_msc=1_700_000_000_124, moved_msc=1_700_000_000_130, volume=0.1, risk=12.5, retcode=10009, order=5, deal=6,
    position=5, filled_volume=0.1, price=1.1, detail=None,
)  # fmt: skip


def story(signal: StoredSignal = SIGNAL, **more: object) -> str:
    parts = {"intents": [], "corrections": [], "events": [], **more}
    return "\n".join(tell(SignalStory(signal=signal, **parts)))  # type: ignore[arg-type]  # the lists of each test


def settled(status: str, reason: str | None, result: bytes | None) -> StoredSignal:
    return msgspec.structs.replace(SIGNAL, status=status, reason=reason, result=result, settled_msc=1_700_000_001_000)


def test_a_signal_that_waits() -> None:
    assert story() == (
        "2023-11-14 22:13:20.123Z  Received BUY EURUSD from redpanda (trading_signals, partition 2, offset 7)\n"
        "    for account 5000001\n"
        "    key k\n"
        "    no final result yet"
    )


def test_who_sent_it_and_with_what_request() -> None:
    sent = msgspec.structs.replace(SIGNAL, topic="", request_id="r-1", sender="ann", correlation="x")
    assert "from gateway (ann)\n    HTTP" in story(msgspec.structs.replace(sent, source="gateway (ann)"))
    text = story(msgspec.structs.replace(sent, source="command"))
    assert "Received BUY EURUSD from command by ann\n    HTTP request x\n    request_id r-1\n    for account" in text


def test_a_filled_order() -> None:
    text = story(settled("filled", None, b'{"data": {"status": "filled"}}'), intents=[INTENT])
    assert "Intent with magic 99: BUY EURUSD 0.1 lots\n    risking 12.50 in account currency" in text
    assert "Filled: volume 0.1, price 1.1, order 5, deal 6, position 5, retcode 10009" in text
    assert "22:13:21.000Z  Result: filled\n" in text
    assert text.endswith("all its events were delivered, or aged out")


@pytest.mark.parametrize("result", [b'{"detail": "spread 30 > 20"}', b'{"data": {"detail": "spread 30 > 20"}}'])
def test_a_denied_signal_says_why(result: bytes) -> None:
    text = story(msgspec.structs.replace(settled("denied", "spread", result), topic="", account=""))
    assert "Received BUY EURUSD from redpanda\n    key k" in text
    assert "Result: denied, reason spread\n    spread 30 > 20" in text


@pytest.mark.parametrize("result", [b"", b"not json", b"[1]", b'{"data": 5}'])
def test_a_result_without_detail(result: bytes) -> None:
    assert "Result: denied\n    all its events" in story(settled("denied", None, result))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("sending", "On its way to the terminal"),
        ("unknown", "never sent again blindly"),
        ("abandoned", "Not found in the terminal"),
        ("simulated", "Not sent: SIMULATION_MODE"),
        ("rejected", "Rejected"),
    ],
)
def test_outcomes(state: str, words: str) -> None:
    bare = {"retcode": None, "order": None, "deal": None, "position": None, "filled_volume": None, "price": None}
    intent = msgspec.structs.replace(INTENT, state=state, leg=2, risk=None, detail="because", **bare)
    text = story(intents=[intent])
    assert "with magic 99, leg 2" in text
    assert words in text
    assert "(because)" in text
    assert "risking" not in text


def test_corrections_and_events_that_wait() -> None:
    row = OutboxRow(id=1, event_id="e", type="order_result", key="k", payload=b"{}", at_msc=1)
    correction = StoredCorrection(
        event_id="e2", supersedes="e", status="filled", reason="", result=b"{}", at_msc=1_700_000_002_000
    )
    text = story(settled("abandoned", None, None), corrections=[correction], events=[("websocket", row)])
    assert "22:13:22.000Z  Corrected: filled\n" in text
    assert text.endswith("    order_result still waits for websocket")
