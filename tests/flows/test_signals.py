import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger
from support.eventually import eventually
from support.fake_terminal import FakeTerminal
from support.flow_kit import DLQ, FakeRecord, FlowKit
from support.properties import heavy
from support.simulated import leap, run_simulated, simulated

from mt5_bridge.core import wire
from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import Action
from mt5_bridge.core.times import DAY, iso
from mt5_bridge.flows.parts import PASSED_S

KEY = "the shared secret"


def signed(value: bytes) -> dict[str, Any]:
    return {"headers": (("Signature", wire.signature_of(value, KEY).encode()),)}


def frame(data: bytes, **beside: Any) -> wire.Envelope:
    """A WebSocket frame around these very bytes of `data`."""
    head = "".join(f'"{name}": {json.dumps(value)}, ' for name, value in beside.items())
    return wire.decode(f'{{{head}"type": "trading_signal", "data": '.encode() + data + b"}")


async def inbox(kit: FlowKit, *keys: str) -> list[str]:
    return sorted(await kit.journal.seen(keys))


async def buried(kit: FlowKit) -> int:
    return sum(row.type == "dead_letter" for row in await kit.journal.outbox("redpanda", 0, 10_000))


BUY: dict[str, Any] = {"volume": 0.1, "stop_loss": 1.09}


# --- what is not ours, and what cannot be read


@simulated
async def test_tombstones_and_foreign_signals_are_skipped_and_counted(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.take([kit.record(None), kit.record(kit.value(signal_id="f", account=999, **BUY))])
        await kit.send(signal_id="mine", account="1001", **BUY)
        await kit.send(signal_id="too", account=1001, **BUY)
        await kit.send(signal_id="all", account="", **BUY)
        for key in ("mine", "too", "all"):
            assert (await kit.result(key))["status"] == "filled"
        stats = kit.intake.stats
        assert (stats.tombstones, stats.foreign, stats.accepted, stats.records) == (1, 1, 3, 5)
        assert await inbox(kit, "f") == []
        assert not await kit.results("f")
        assert await kit.journal.offsets("trading_signals") == {0: 5}


def broken(fields: bytes) -> bytes:
    return b'{"type": "trading_signal", "data": {' + fields + b"}}"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"", False),
        (b"\xff\xfe", False),
        (b"not json", False),
        (b"[" * 100_000, False),
        (b'{"type": "trading_signal"}', False),
        (b'{"type": "tick_data", "data": {"signal_id": "s"}}', False),
        (broken(b'"signal_id": "s", "symbol": "EURUSD"'), True),
        (broken(b'"signal_id": "s", "symbol": 5, "action": "BUY"'), True),
        (broken(b'"signal_id": "s", "symbol": "X", "action": "HOLD"'), True),
        (broken(b'"signal_id": "s", "symbol": "X", "action": "BUY", "volume": 0'), True),
        (broken(b'"signal_id": "s", "symbol": "X", "action": "BUY", "volume": NaN'), True),
        (broken(b'"signal_id": "s", "symbol": "X", "action": "BUY", "volume": 1e999'), True),
        (b'{"signal_id": "s", "symbol": "EURUSD", "action": "BUY", "volume": 0.1, "stop_loss": 1.09}', True),
        (broken(b'"signal_id": "s", "symbol": "' + b"X" * 65 + b'", "action": "BUY"'), True),
        (broken(b'"signal_id": "' + b"s" * 300 + b'", "symbol": "X", "action": "BUY"'), False),
        (broken(b'"signal_id": "s", "symbol": "X", "action": "' + b"H" * 9000 + b'"'), True),
    ],
)
def test_poison_goes_to_the_dlq_and_blocks_nothing(tmp_path: Path, value: bytes, named: bool) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            await kit.take([kit.record(value), kit.record(kit.value(signal_id="good", **BUY))])
            assert (await kit.result("good"))["status"] == "filled"
            assert await buried(kit) == 1
            assert kit.intake.stats.dead_letters == 1
            assert await inbox(kit, "s", "s" * 300) == []
            told = [(r["signal_id"], r["status"], r["reason"]) for r in await kit.results() if r["signal_id"] != "good"]
            assert told == ([("s", "denied", "invalid")] if named else [])
            assert all(len(r["detail"] or "") <= 500 for r in await kit.results())

    run()


@simulated
async def test_the_dlq_gets_reason_place_and_the_original(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("outbox-redpanda")
        await kit.take([kit.record(b'{"type":"dance","data":{}}', key=b"K", headers=(("h", b"1"),))])
        await eventually(lambda: kit.producer.of(DLQ), 5)
        (letter,) = (r for r in kit.producer.records if r.topic == DLQ)
        assert (letter.key, letter.value) == (b"K", b'{"type":"dance","data":{}}')
        headers = dict(letter.headers)
        assert (headers["reason"], headers["source"], headers["h"]) == (b"unknown_type", b"trading_signals/0/0", b"1")


@simulated
async def test_a_number_that_is_none_is_the_reason_in_the_dlq(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("outbox-redpanda")
        for number in (b"NaN", b"1e400"):
            await kit.take([kit.record(broken(b'"symbol": "X", "action": "BUY", "volume": ' + number))])
        await eventually(lambda: len(kit.producer.of(DLQ)) == 2, 5)
        letters = [record for record in kit.producer.records if record.topic == DLQ]
        assert [dict(letter.headers)["reason"] for letter in letters] == [b"invalid", b"invalid"]


@simulated
async def test_an_undecodable_signal_for_another_account_is_not_ours_to_bury(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.take([kit.record(b'{"type": "trading_signal", "data": {"account": 999, "signal_id": "s"}}')])
        assert (kit.intake.stats.foreign, await buried(kit)) == (1, 0)


# --- SIGNAL_REQUIRE_ACCOUNT


@pytest.mark.parametrize(
    ("key", "account", "status"),
    [
        (b"1001", None, "filled"),
        (b"EURUSD", 1001, "filled"),
        (b"999", 1001, "filled"),
        (None, "1001", "filled"),
        (b"EURUSD", None, "denied"),
        (None, None, "denied"),
        (b"999", None, None),
        (b"1001", 999, None),
        (b"\xff", None, "denied"),
    ],
)
def test_a_signal_without_account_runs_only_under_our_login_where_that_is_required(
    tmp_path: Path, key: bytes | None, account: Any, status: str | None
) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path, limits={"require_account": True}) as kit:
            await kit.send(signal_id="s", record={"key": key}, **BUY, **({"account": account} if account else {}))
            if status is None:
                assert kit.intake.stats.foreign == 1
                assert await inbox(kit, "s") == []
                return
            result = await kit.result("s")
            assert result["status"] == status
            assert result["reason"] == ("account_mismatch" if status == "denied" else None)

    run()


@simulated
async def test_undecodable_records_keyed_to_another_login_are_skipped_where_accounts_are_required(
    tmp_path: Path,
) -> None:
    async with FlowKit.open(tmp_path, limits={"require_account": True}) as kit:
        await kit.take([kit.record(b"?", key=k) for k in (b"999", b"1001", b"EURUSD", None)])
        assert (kit.intake.stats.foreign, kit.intake.stats.dead_letters) == (1, 3)


@simulated
async def test_whom_a_signal_was_for_outlives_a_restart(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"require_account": True}, reconcile=False) as kit:
        await kit.send(signal_id="s", record={"key": b"1001"}, **BUY)
        terminal = kit.terminal
        await kit.crash()
    async with FlowKit.open(tmp_path, terminal=terminal, limits={"require_account": True}) as kit:
        assert (await kit.result("s"))["status"] == "filled"


# --- signatures


def hmac_fields(kit: FlowKit, **changes: Any) -> dict[str, Any]:
    return {"signal_id": "s", "created_at": iso(kit.clock.now_ms()), "account": 1001, **BUY, **changes}


@simulated
async def test_a_signed_signal_passes_and_no_other(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, hmac_keys=(KEY,)) as kit:
        good = kit.value(**hmac_fields(kit))
        forged = kit.value(**hmac_fields(kit, signal_id="f", volume=5.0))
        records = [
            kit.record(forged, **signed(good)),
            kit.record(kit.value(**hmac_fields(kit, signal_id="none"))),
            kit.record(good, **signed(good)),
            kit.record(good + b" ", **signed(good)),
        ]
        await kit.take(records)
        assert (await kit.result("s"))["status"] == "filled"
        assert kit.intake.stats.bad_signatures == 3
        assert await inbox(kit, "f", "none") == [], "what is forged does not spend an id"
        assert [r["reason"] for r in await kit.results("f")] == ["bad_signature"]
        assert "no signature" in (await kit.results("none"))[0]["detail"]


@simulated
async def test_while_keys_change_both_are_valid_and_who_uses_the_old_one_is_counted(tmp_path: Path) -> None:
    new = "the-new-key-of-the-senders"
    async with FlowKit.open(tmp_path, hmac_keys=(new, KEY)) as kit:
        for name, key in (("with-new", new), ("with-old", KEY), ("with-other", "some-other-key")):
            value = kit.value(**hmac_fields(kit, signal_id=name))
            header = ("signature", wire.signature_of(value, key).encode())
            await kit.take([kit.record(value, headers=(header,))])
        assert [(await kit.result(name))["status"] for name in ("with-new", "with-old")] == ["filled", "filled"]
        assert [r["reason"] for r in await kit.results("with-other")] == ["bad_signature"]
        assert (kit.intake.stats.previous_key, kit.intake.stats.bad_signatures) == (1, 1)
    async with FlowKit.open(tmp_path, hmac_keys=(new,)) as kit:  # the change is over
        value = kit.value(**hmac_fields(kit, signal_id="late"))
        await kit.take([kit.record(value, **signed(value))])
        assert [r["reason"] for r in await kit.results("late")] == ["bad_signature"]


@simulated
async def test_a_recorded_signal_played_again_does_nothing_within_its_time_and_is_stale_after(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, hmac_keys=(KEY,)) as kit:
        value = kit.value(**hmac_fields(kit))
        await kit.take([kit.record(value, **signed(value))])
        assert (await kit.result("s"))["status"] == "filled"
        # Another place, another record time: what is signed is the value, and that names the signal and its time.
        await kit.take([kit.record(value, partition=3, timestamp_ms=kit.clock.now_ms(), **signed(value))])
        renamed = value.replace(b'"s"', b'"other"')
        await kit.take([kit.record(renamed, **signed(value))])
        assert (kit.intake.stats.duplicates, kit.intake.stats.bad_signatures) == (1, 1)
        unused = kit.value(**hmac_fields(kit, signal_id="kept-back"))
        leap(60)
        await kit.take([kit.record(unused, timestamp_ms=kit.clock.now_ms(), **signed(unused))])
        assert (await kit.result("kept-back"))["reason"] == "stale"
        assert len(kit.terminal.sent) == 1


@pytest.mark.parametrize("missing", ["signal_id", "created_at", "account"])
def test_a_signed_signal_must_say_who_when_and_for_whom(tmp_path: Path, missing: str) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path, hmac_keys=(KEY,)) as kit:
            value = kit.value(**{n: v for n, v in hmac_fields(kit).items() if n != missing})
            await kit.take([kit.record(value, **signed(value))])
            assert not kit.terminal.sent
            assert await inbox(kit, "s") == []
            if missing != "signal_id":
                assert [(r["reason"], missing in r["detail"]) for r in await kit.results("s")] == [("invalid", True)]
            assert kit.intake.stats.incomplete == 1
            assert await buried(kit) == (missing == "signal_id"), "what cannot be answered by name is kept"

    run()


@simulated
async def test_what_anybody_can_write_does_not_fill_the_dlq_and_leaves_a_trace(tmp_path: Path) -> None:
    told: list[int] = []
    sink = logger.add(lambda line: told.append(line.record["extra"]["refused"]), filter=_about_refusals)
    try:
        async with FlowKit.open(tmp_path, hmac_keys=(KEY,)) as kit:
            for _ in range(50):
                await kit.take([kit.record(kit.value(**hmac_fields(kit, signal_id=None)))])
            assert kit.intake.stats.bad_signatures == 50
            assert (await buried(kit), await kit.results()) == (0, [])
            assert told == [1], "a flood of them is no flood of lines"
            leap(61)
            await kit.send_frame(**hmac_fields(kit))
            assert told == [1, 51]
    finally:
        logger.remove(sink)


def _about_refusals(record: Any) -> bool:
    return bool(record["extra"].get("event") == "signal_refused")


@simulated
async def test_a_signed_signal_is_as_old_as_it_says_whatever_its_record_says(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, hmac_keys=(KEY,)) as kit:
        value = kit.value(**hmac_fields(kit, created_at=kit.clock.now_ms() - 60_000))
        await kit.take([kit.record(value, **signed(value))])
        assert (await kit.result("s"))["reason"] == "stale"


@simulated
async def test_signals_of_other_bridges_are_not_called_forged(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, hmac_keys=(KEY,)) as kit:
        await kit.take([kit.record(kit.value(**hmac_fields(kit, account=999)))])
        assert (kit.intake.stats.foreign, kit.intake.stats.bad_signatures) == (1, 0)
        assert not await kit.results()


@simulated
async def test_a_signed_frame_is_checked_over_the_bytes_of_its_data(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, hmac_keys=(KEY,)) as kit:
        fields = {"symbol": "EURUSD", "action": "BUY", **hmac_fields(kit)}
        data = json.dumps(fields, indent=3).encode()
        now = kit.clock.now_ms()
        await kit.intake.take_frames([(frame(data, signature=wire.signature_of(data, KEY)), now)])
        assert (await kit.result("s"))["status"] == "filled"
        other = json.dumps({**fields, "signal_id": "t"}).encode()
        await kit.intake.take_frames([(frame(other, signature=wire.signature_of(data, KEY)), now)])
        await kit.intake.take_frames([(frame(other), now)])
        assert [r["reason"] for r in await kit.results("t")] == ["bad_signature"] * 2


# --- once


@simulated
async def test_a_redelivered_signal_is_silent_and_a_repeated_frame_gets_the_first_result_again(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        record = await kit.send(signal_id="s", **BUY)
        first = await kit.result("s")
        await kit.take([record, record])
        await kit.send(signal_id="s", **BUY)
        assert kit.intake.stats.duplicates == 3
        assert len(await kit.results("s")) == 1
        await kit.send_frame(signal_id="s", **BUY)
        (again,) = kit.channel.of("order_result")
        assert again["data"] == first
        event = next(e for e in await kit.events() if e["type"] == "order_result")
        assert again["event_id"] == event["event_id"]
        assert len(kit.terminal.sent) == 1


@simulated
async def test_what_comes_beside_a_redelivered_signal_is_counted_once(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"trading_enabled": False}) as kit:
        await kit.send(signal_id="s", account=1001, **BUY)
        again = kit.record(kit.value(signal_id="s", account=1001, **BUY))
        foreign = [kit.record(kit.value(signal_id=f"f{n}", account=999, **BUY)) for n in range(3)]
        await kit.take([again, *foreign, kit.record(None), kit.record(b"garbage")])
        stats = kit.intake.stats
        assert (stats.duplicates, stats.foreign, stats.tombstones, stats.dead_letters) == (1, 3, 1, 1)
        assert kit.judge.denials == {"trading_disabled": 1}, "what was denied before is not denied again"


@simulated
async def test_a_denial_spends_the_id(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"trading_enabled": False}) as kit:
        await kit.send(signal_id="s", **BUY)
        assert (await kit.result("s"))["reason"] == "trading_disabled"
        kit.limit(trading_enabled=True)
        await kit.send_frame(signal_id="s", **BUY)
        assert kit.channel.of("order_result")[0]["data"]["reason"] == "trading_disabled"
        assert not kit.terminal.sent


@simulated
async def test_a_frame_repeated_while_the_first_is_worked_on_gets_its_result_too(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.holds["quote_for_order"] = asyncio.Event()
        await kit.send_frame(signal_id="s", **BUY)
        reads: list[str] = []

        async def counting(name: str) -> None:
            reads.extend([name] if "seen" in name else [])
            if len(reads) == 2:
                raise JournalError("busy")

        kit.journal.step = counting
        for _ in range(20):
            await kit.send_frame(signal_id="s", **BUY)
        await asyncio.sleep(2)
        assert 2 < len(reads) < 10, "they wait together"
        assert not kit.channel.of("order_result")
        kit.terminal.holds.pop("quote_for_order").set()
        assert (await kit.result("s"))["status"] == "filled"
        answers = await eventually(lambda: kit.channel.of("order_result"))
        event = next(e for e in await kit.events() if e["type"] == "order_result")
        assert [(a["event_id"], a["data"]["status"]) for a in answers] == [(event["event_id"], "filled")] * 20
        assert len(kit.terminal.sent) == 1


@simulated
async def test_who_repeats_a_signal_is_not_answered_for_ever(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.holds["quote_for_order"] = asyncio.Event()
        await kit.send_frame(signal_id="s", ttl_ms=120_000, **BUY)
        await kit.send_frame(signal_id="s", ttl_ms=120_000, **BUY)
        await asyncio.sleep(40)
        await kit.send_frame(signal_id="s", ttl_ms=120_000, **BUY)
        kit.terminal.holds.pop("quote_for_order").set()
        await kit.result("s")
        await kit.idle()
        assert len(kit.channel.of("order_result")) == 1


@simulated
async def test_both_channels_at_once_make_one_order(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await asyncio.gather(*(kit.send(signal_id="s", **BUY) for _ in range(3)), kit.send_frame(signal_id="s", **BUY))
        assert (await kit.result("s"))["status"] == "filled"
        await kit.idle()
        assert len(kit.terminal.sent) == 1


@simulated
async def test_a_record_is_not_passed_over_for_a_frame_that_did_not_get_in(tmp_path: Path) -> None:
    """The disk fails the frame's commit, and would take the offset behind the record of the same signal."""
    async with FlowKit.open(tmp_path) as kit:
        fails = asyncio.Event()

        async def fail_the_frame(name: str) -> None:
            if name.startswith("commit SignalReceived"):
                kit.journal.step = None
                await fails.wait()
                raise JournalError("disk full")

        kit.journal.step = fail_the_frame
        by_frame = asyncio.create_task(kit.send_frame(signal_id="s", **BUY))
        await eventually(lambda: kit.journal.step is None)
        by_record = asyncio.create_task(kit.send(signal_id="s", **BUY))
        await asyncio.sleep(0.1)
        assert not by_record.done()
        fails.set()
        await asyncio.gather(by_frame, by_record)
        assert (await kit.result("s"))["status"] == "filled"
        await kit.idle()
        assert len(kit.terminal.sent) == 1


@simulated
async def test_a_signal_without_id_is_known_by_its_record(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        record = await kit.send(**BUY)
        await kit.take([record])
        await kit.send(**BUY)
        await kit.idle()
        assert len(kit.terminal.sent) == 2
        assert {r["signal_id"][:4] for r in await kit.results()} == {"rec-"}


@simulated
async def test_frames_without_id_are_signals_of_their_own_but_for_their_request(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.send_frame(**BUY)
        await kit.send_frame(**BUY)
        await kit.send_frame(request_id=5, **BUY)
        first = await kit.result("req-5")
        await kit.send_frame(request_id=5, **BUY)
        await kit.idle()
        assert len(kit.terminal.sent) == 3
        assert kit.channel.of("order_result")[-1]["data"] == first
        leap(DAY / 1000 + 1)
        kit.terminal.tick("EURUSD", 1.1, 1.1001)
        await kit.send_frame(request_id=5, **BUY)
        await kit.idle()
        assert len(kit.terminal.sent) == 4, "a day later it is another request"


# --- time


@pytest.mark.parametrize(
    ("created", "reason"), [(-5_001, "stale"), (-4_000, None), (1_900, None), (2_100, "from_future")]
)
@pytest.mark.parametrize("by", ["record", "field"])
def test_old_and_future_signals_are_denied(tmp_path: Path, created: int, reason: str | None, by: str) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            stamp = kit.clock.now_ms() + created
            if by == "record":
                await kit.send(signal_id="s", record={"timestamp_ms": stamp}, **BUY)
            else:
                await kit.send(signal_id="s", created_at=iso(stamp), **BUY)
            assert (await kit.result("s"))["reason"] == reason

    run()


@simulated
async def test_a_record_without_time_is_as_old_as_its_wait_here(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.break_down()
        taking = asyncio.create_task(kit.send(signal_id="s", record={"timestamp_ms": -1}, **BUY))
        await asyncio.sleep(10)
        kit.journal.mend()
        await taking
        assert (await kit.result("s"))["reason"] == "stale"


@simulated
async def test_nothing_is_taken_before_the_account_is_known(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.intake.login_known.clear()
        now = kit.clock.now_ms()
        data = json.dumps({"symbol": "EURUSD", "action": "BUY", "signal_id": "w", **BUY}).encode()
        waiting = [
            asyncio.create_task(kit.send(signal_id="s", **BUY)),
            asyncio.create_task(kit.intake.take_frames([(frame(data), now)])),
        ]
        await asyncio.sleep(7)
        assert kit.intake.stats.accepted == 0
        kit.intake.login_known.set()
        await asyncio.gather(*waiting)
        assert (await kit.result("s"))["reason"] == "stale"
        assert (await kit.result("w"))["reason"] == "stale"


# --- where reading began anew


@simulated
async def test_what_a_former_journal_may_have_executed_is_looked_up_first(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path / "one") as kit:
        await kit.send(signal_id="s", **BUY)
        assert (await kit.result("s"))["status"] == "filled"
        terminal = kit.terminal
        await kit.crash()
    async with FlowKit.open(tmp_path / "two", terminal=terminal) as kit:
        await kit.intake.position_lost("trading_signals", 0, 0, "first_time")
        await kit.send(signal_id="s", created_at=kit.clock.now_ms() + 1_500, **BUY)
        assert (await kit.result("s"))["status"] == "filled"
        assert len(terminal.sent) == 1, "though its maker's clock is ahead"


@simulated
async def test_a_topic_made_anew_begins_its_offsets_anew(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.take([kit.record(None, offset=5000), kit.record(None, offset=70, partition=1)])
        assert await kit.journal.offsets("trading_signals") == {0: 5001, 1: 71}
        await kit.intake.position_lost("trading_signals", 0, 0, "topic_made_anew")
        await kit.take([kit.record(None, offset=0), kit.record(None, offset=71, partition=1)])
        assert await kit.journal.offsets("trading_signals") == {0: 1, 1: 72}
        await kit.take([kit.record(None, offset=0)])
        assert await kit.journal.offsets("trading_signals") == {0: 1, 1: 72}


# --- the journal


@simulated
async def test_without_a_journal_records_wait_and_trade_nothing(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.break_down()
        taking = asyncio.create_task(kit.send(signal_id="s", ttl_ms=5000, **BUY))
        await asyncio.sleep(2)
        assert not taking.done()
        assert not kit.terminal.sent
        kit.journal.mend()
        await taking
        assert (await kit.result("s"))["status"] == "filled"
        assert len(kit.terminal.sent) == 1


@simulated
async def test_without_a_journal_frames_are_refused_at_once_and_may_come_again(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.journal.break_down()
        await kit.send_frame(signal_id="s", request_id="r", **BUY)
        await kit.send_frame("HOLD", request_id="bad")
        told = kit.channel.of("order_result")
        assert [(f["request_id"], f["data"]["reason"]) for f in told] == [
            ("r", "journal_unavailable"),
            ("bad", "invalid"),
        ]
        kit.journal.mend()
        await kit.send_frame(signal_id="s", **BUY)
        assert (await kit.result("s"))["status"] == "filled"


@simulated
async def test_a_command_is_entered_once(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        signal = TradingSignal(symbol="EURUSD", action=Action.CLOSE, position=1)
        jobs = await asyncio.gather(
            kit.intake.command(signal, 1, name="n"), kit.intake.command(signal, 1, name="n"), return_exceptions=True
        )
        assert sum(isinstance(job, Exception) for job in jobs) == 1
        await kit.idle()


@simulated
async def test_a_command_does_not_wait_for_a_signal_that_two_channels_bring_and_the_disk_does_not_take(
    tmp_path: Path,
) -> None:
    async with FlowKit.open(tmp_path) as kit:
        taken, mended = asyncio.Event(), asyncio.Event()

        async def hang(name: str) -> None:
            if name.startswith("commit SignalReceived"):
                taken.set()
                await mended.wait()

        kit.journal.step = hang
        by_frame = asyncio.create_task(kit.send_frame(signal_id="s", **BUY))
        await taken.wait()
        by_record = asyncio.create_task(kit.send(signal_id="s", **BUY))
        await asyncio.sleep(0.1)
        close = TradingSignal(symbol="EURUSD", action=Action.CLOSE, position=1)
        async with asyncio.timeout(0.1):
            await kit.intake.command(close, None)
        assert not by_record.done(), "its offset waits for the signal that the frame brought first"
        mended.set()
        await asyncio.gather(by_frame, by_record)
        await kit.idle()
        assert len(kit.terminal.sent) == 1


# --- frames


@simulated
async def test_every_frame_is_answered_by_its_order_result(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await kit.send_frame("HOLD")
        await kit.send_frame(account=999, signal_id="f", request_id=1, **BUY)
        denied = await kit.results()
        assert [(r["signal_id"], r["request_id"], r["reason"]) for r in denied] == [
            (None, None, "invalid"),
            ("f", 1, "account_mismatch"),
        ]
        assert kit.intake.stats.foreign == 1
        assert await inbox(kit, "f") == []


# --- whatever comes


VALUES = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.fixed_dictionaries(
        {"symbol": st.sampled_from(["EURUSD", "", "NONE"]), "action": st.sampled_from(["BUY", "CLOSE", "X", 5])},
        optional={
            "signal_id": st.sampled_from(["a", "b", "c", 7]),
            "volume": st.sampled_from([0.1, -1, "0.1"]),
            "stop_loss": st.sampled_from([1.09, 1.2]),
            "account": st.sampled_from([1001, 999, "1001", None]),
            "created_at": st.sampled_from([0, "soon", "2023-11-14T22:13:20Z"]),
        },
    ).map(lambda data: json.dumps({"type": "trading_signal", "data": data}).encode()),
)


@settings(max_examples=heavy(25))
@given(st.lists(VALUES, max_size=12), st.integers(1, 5))
def test_whatever_comes_everything_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, values: Sequence[bytes | None], size: int
) -> None:
    """Each record has exactly one fate, no id makes two orders, and the offset ends behind the last."""

    async def run() -> None:
        terminal = FakeTerminal(login=1001)
        terminal.tick("EURUSD", 1.1, 1.1001)
        async with FlowKit.open(tmp_path_factory.mktemp("any"), terminal=terminal) as kit:
            records: list[FakeRecord] = [kit.record(value) for value in values]
            for start in range(0, len(records), size):
                await kit.take(records[start : start + size])
                await kit.idle()
            stats = kit.intake.stats
            assert stats.records == len(values)
            fates = stats.tombstones + stats.foreign + stats.duplicates + stats.dead_letters + stats.accepted
            assert fates == len(values)
            opened = [r.comment for r in terminal.sent if not r.position]
            assert len(opened) == len(set(opened))
            left = len(values) - (await kit.journal.offsets("trading_signals")).get(0, 0)
            assert 0 <= left <= stats.tombstones + stats.foreign, "no more than what does no harm when it is read again"
            leap(2 * PASSED_S)
            await kit.take([kit.record(None)])
            assert await kit.journal.offsets("trading_signals") == {0: len(values) + 1}
            assert not await kit.journal.waiting()

    run_simulated(run())
