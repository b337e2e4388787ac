import asyncio
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.flow_kit import DLQ, EVENTS, FakeChannel, FakeProducer, FlowKit
from support.simulated import leap, simulated

from mt5_bridge.core.errors import BrokerError, ChannelClosedError, JournalError
from mt5_bridge.core.times import DAY, HOUR
from mt5_bridge.flows.outbox import HANDFUL, KEPT_BYTES, PAGE
from mt5_bridge.journal import changes
from mt5_bridge.journal.errors import JournalRejected
from mt5_bridge.redpanda.faults import RecordRefused


async def announce(kit: FlowKit, *numbers: int, type: str = "halt_changed") -> None:
    await kit.outbox.commit(*(kit.outbox.event(type, {"n": n}) for n in numbers))


def told(kit: FlowKit) -> list[int]:
    return [r.json["data"]["n"] for r in kit.producer.records if r.topic == EVENTS]


def heard(kit: FlowKit) -> list[int]:
    return [f["data"]["n"] for f in map(json.loads, kit.channel.frames) if "n" in (f["data"] or ())]


async def depth(kit: FlowKit) -> dict[str, int]:
    return await kit.journal.outbox_depth()


async def empty(kit: FlowKit) -> None:
    async def gone() -> bool:
        return not await depth(kit)

    await eventually(gone, 10, "empty outbox")


class FlakyProducer(FakeProducer):
    """Takes a part of what it is given, then fails.

    Attributes:
        takes: how many records it takes until each failure; then everything.
    """

    def __init__(self, *takes: int) -> None:
        super().__init__()
        self.takes = list(takes)
        self.asked: list[int] = []

    async def publish(
        self,
        topic: str,
        key: bytes | None,
        records: Sequence[tuple[int | None, bytes | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        self.asked.append(len(records))
        if self.takes:
            await super().publish(topic, key, records[: self.takes.pop(0)], headers)
            raise BrokerError("the broker did not acknowledge in time")
        await super().publish(topic, key, records, headers)


class PickyProducer(FakeProducer):
    """Refuses for good what is larger than its limit."""

    limit = 100_000

    async def publish(
        self,
        topic: str,
        key: bytes | None,
        records: Sequence[tuple[int | None, bytes | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        beside = len(key or b"") + sum(len(n) + len(v) for n, v in headers)
        if any(len(value or b"") + beside > self.limit for _, value in records):
            raise RecordRefused("too large", "too_large")
        await super().publish(topic, key, records, headers)


# --- both channels


@simulated
async def test_one_event_the_same_on_both_channels_then_forgotten(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("outbox-redpanda", "outbox-websocket")
        await announce(kit, 1)
        await empty(kit)
        (record,) = (r for r in kit.producer.records if r.topic == EVENTS)
        frame = next(f for f in kit.channel.frames if b"halt_changed" in f)
        assert record.value == frame
        assert record.key == b"1001"
        assert dict(record.headers) == {"schema": b"halt_changed/1", "bridge": b"bridge-1", "account": b"1001"}
        assert record.timestamp_ms is not None
        assert json.loads(frame)["event_id"]
        stats = kit.outbox.stats
        assert (stats.announced, stats.delivered_redpanda, stats.delivered_websocket) == (1, 1, 1)


@simulated
async def test_keeps_the_order_over_pages_and_outages(tmp_path: Path) -> None:
    producer, channel = FlakyProducer(0, 3, 150, 0, 1), FakeChannel()
    producer.connected = channel.connected = False
    async with FlowKit.open(tmp_path, producer=producer, channel=channel) as kit:
        kit.run("outbox-redpanda", "outbox-websocket")
        count = PAGE + 30
        for n in range(count):
            await announce(kit, n, type="order_result" if n % 50 == 7 else "halt_changed")
        await asyncio.sleep(30)
        assert not told(kit)
        producer.connected = channel.connected = True
        kit.outbox.wake()
        await empty(kit)
        assert list(dict.fromkeys(told(kit))) == list(range(count))
        assert heard(kit) == list(range(count))
        assert max(producer.asked) > 40, "neighbours go together"


@simulated
async def test_what_a_broker_left_is_asked_for_again_without_a_new_event(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, producer=FlakyProducer(1)) as kit:
        await kit.outbox.commit(
            kit.outbox.event("halt_changed", {"n": 1}),
            kit.outbox.event("order_result", {"n": 2}),
            kit.outbox.event("halt_changed", {"n": 3}),
        )
        kit.run("outbox-redpanda")
        await asyncio.sleep(2)
        assert list(dict.fromkeys(told(kit))) == [1, 2, 3]


@simulated
async def test_at_least_once_across_a_crash(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        producer = kit.producer

        async def die(name: str) -> None:
            if name == "commit OutboxDone":
                await asyncio.get_running_loop().create_future()

        kit.journal.step = die
        kit.run("outbox-redpanda")
        await announce(kit, 1, 2)
        await eventually(lambda: told(kit), 5)
        await kit.crash()
    async with FlowKit.open(tmp_path, producer=producer) as kit:
        kit.run("outbox-redpanda")
        await asyncio.sleep(1)
        assert told(kit) == [1, 2, 1, 2]
        ids = [r.json["event_id"] for r in producer.records if r.topic == EVENTS]
        assert ids[:2] == ids[2:]


@simulated
async def test_a_journal_that_cannot_be_read_or_written_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FlowKit.open(tmp_path) as kit:
        real = kit.journal.outbox

        async def broken(*args: Any) -> Any:
            raise JournalError("unreadable")

        monkeypatch.setattr(kit.journal, "outbox", broken)
        kit.run("outbox-redpanda")
        await announce(kit, 1)
        await asyncio.sleep(3)
        monkeypatch.setattr(kit.journal, "outbox", real)
        kit.channel.connected = False
        kit.journal.break_down()
        await asyncio.sleep(5)
        kit.journal.mend()
        await asyncio.sleep(2)
        assert told(kit) == [1], "delivered once, and its row deleted when that was possible"
        assert (await depth(kit)).get("redpanda", 0) == 0


# --- the socket


@simulated
async def test_frames_count_when_a_pong_came_after_them(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.channel.confirming = False
        kit.run("outbox-websocket")
        await announce(kit, 1, 2)
        await asyncio.sleep(3)
        assert (await depth(kit))["websocket"] == 2
        kit.channel.confirming = True
        await asyncio.sleep(2)
        assert "websocket" not in await depth(kit)
        assert heard(kit)[-2:] == [1, 2]
        kit.channel.accepting = False
        await announce(kit, 3, 4)
        await asyncio.sleep(3)
        assert (await depth(kit))["websocket"] == 2
        kit.channel.accepting = True
        await asyncio.sleep(2)
        assert "websocket" not in await depth(kit)


class NarrowChannel(FakeChannel):
    """A socket whose queue takes a few frames until they are confirmed."""

    room = HANDFUL + 10
    room_bytes = 300_000

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[bytes] = []

    def send(self, frame: bytes, *, urgent: bool = False, brief: bool = False) -> bool:
        if len(self.waiting) >= self.room or sum(map(len, self.waiting)) + len(frame) > self.room_bytes:
            return False
        self.waiting.append(frame)
        return super().send(frame, urgent=urgent, brief=brief)

    async def send_confirmed(self, frame: bytes) -> None:
        if not self.send(frame):
            raise ChannelClosedError("too many frames wait for the backend")
        await asyncio.sleep(0)
        self.waiting.clear()


@simulated
async def test_more_than_the_sockets_queue_holds_goes_through_it(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, channel=NarrowChannel()) as kit:
        kit.channel.frames.clear()
        await announce(kit, *range(PAGE))
        big = "x" * 100_000
        await kit.outbox.commit(*(kit.outbox.event("big", {"n": PAGE + n, "text": big}) for n in range(10)))
        kit.run("outbox-websocket")
        await asyncio.sleep(1)
        assert heard(kit) == list(range(PAGE + 10)), "each once: nothing went round"


# --- what nobody takes


@simulated
async def test_what_the_broker_will_never_take_does_not_hold_back_the_rest(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, producer=PickyProducer()) as kit:
        await kit.outbox.commit(
            kit.outbox.event("halt_changed", {"n": 1}),
            kit.outbox.event("halt_changed", {"n": 2, "text": "x" * 200_000}),
            kit.outbox.event("halt_changed", {"n": 3}),
        )
        kit.run("outbox-redpanda")
        await asyncio.sleep(1)
        assert told(kit) == [1, 3]
        assert kit.outbox.stats.undeliverable == 1
        assert "redpanda" not in await depth(kit)


@simulated
async def test_a_failure_within_a_run_taken_apart_keeps_the_order(tmp_path: Path) -> None:
    class PickyAndFlaky(PickyProducer):
        failures = 1

        async def publish(self, *args: Any, **kwargs: Any) -> None:
            if len(args[2]) == 1 and b'"n":3' in (args[2][0][1] or b"") and self.failures:
                self.failures -= 1
                raise BrokerError("once")
            await super().publish(*args, **kwargs)

    async with FlowKit.open(tmp_path, producer=PickyAndFlaky()) as kit:
        texts = ["", "x" * 200_000, "", ""]
        await kit.outbox.commit(
            *(kit.outbox.event("halt_changed", {"n": n, "text": text}) for n, text in enumerate(texts, 1))
        )
        kit.run("outbox-redpanda")
        await asyncio.sleep(3)
        assert list(dict.fromkeys(told(kit))) == [1, 3, 4]


class GuardedProducer(PickyProducer):
    """Takes nothing into some topics until somebody grants the right."""

    def __init__(self, *shut: str) -> None:
        super().__init__()
        self.shut = set(shut)

    async def publish(self, *args: Any, **kwargs: Any) -> None:
        if args[0] in self.shut:
            raise RecordRefused("not allowed", "not_allowed")
        await super().publish(*args, **kwargs)


@simulated
async def test_what_we_may_not_write_yet_waits_until_we_may(tmp_path: Path) -> None:
    producer = GuardedProducer(EVENTS, DLQ)
    async with FlowKit.open(tmp_path, producer=producer) as kit:
        await announce(kit, 1, 2)
        assert await bury(kit, b"x") is None
        await asyncio.sleep(3600)
        assert kit.outbox.stats.undeliverable == 0
        assert kit.outbox.stats.held > 0
        assert (await depth(kit))["redpanda"] == 3
        producer.shut.clear()
        await announce(kit, 3)
        await asyncio.sleep(5)
        assert told(kit) == [1, 2, 3]
        assert [r.value for r in producer.records if r.topic == DLQ] == [b"x"]
        assert "redpanda" not in await depth(kit)


@pytest.mark.parametrize("shut", [DLQ, EVENTS])
def test_one_topic_that_takes_nothing_does_not_hold_up_the_other(tmp_path: Path, shut: str) -> None:
    @simulated
    async def run() -> None:
        producer = GuardedProducer(shut)
        async with FlowKit.open(tmp_path, producer=producer) as kit:
            letters = PAGE + 10
            for n in range(letters):
                await kit.outbox.commit(kit.outbox.dead_letter(key=None, value=b"%d" % n, headers=(), why={}))
            await announce(kit, *range(letters))
            kit.run("outbox-redpanda")
            await asyncio.sleep(30)
            buried = [r.value for r in producer.records if r.topic == DLQ]
            assert (len(told(kit)), len(buried)) == ((0, letters) if shut == EVENTS else (letters, 0))
            producer.shut.clear()
            await empty_of(kit, "redpanda")
            assert told(kit) == list(range(letters))
            buried = [r.value for r in producer.records if r.topic == DLQ]
            assert buried == [b"%d" % n for n in range(letters)]

    run()


async def empty_of(kit: FlowKit, channel: str) -> None:
    async def gone() -> bool:
        return channel not in await depth(kit)

    await eventually(gone, 30, f"nothing left for {channel}")


@simulated
async def test_events_older_than_a_day_are_dropped_and_counted(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await announce(kit, 1)
        leap(23 * HOUR / 1000)
        await announce(kit, 2)
        kit.run("outbox-janitor")
        await asyncio.sleep(1)
        assert kit.outbox.stats.aged_out == 0
        leap(2 * HOUR / 1000)
        await asyncio.sleep(301)
        assert kit.outbox.stats.aged_out == 2, "one row of each channel"
        assert await depth(kit) == {"redpanda": 1, "websocket": 1}


@simulated
async def test_a_clean_up_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await announce(kit, 1)
        leap(DAY / 1000 + 1)
        real = kit.journal.age_out

        async def broken(channel: str, before: int) -> int:
            raise JournalError("full")

        monkeypatch.setattr(kit.journal, "age_out", broken)
        kit.run("outbox-janitor")
        await asyncio.sleep(1)
        monkeypatch.setattr(kit.journal, "age_out", real)
        await asyncio.sleep(300)
        assert kit.outbox.stats.aged_out == 2


# --- dead letters


async def bury(kit: FlowKit, value: bytes, key: bytes | None = b"k", headers: Sequence[tuple[str, bytes]] = ()) -> Any:
    letter = kit.outbox.dead_letter(key=key, value=value, headers=headers, why={"reason": "invalid", "detail": "why"})
    await kit.outbox.commit(letter)
    kit.run("outbox-redpanda", "outbox-websocket")
    await asyncio.sleep(2)
    return next(iter(r for r in kit.producer.records if r.topic == DLQ), None)


@pytest.mark.parametrize("key", [b"\xff\x00", None])
def test_a_dead_letter_has_its_original_bytes_and_the_reason(tmp_path: Path, key: bytes | None) -> None:
    @simulated
    async def run() -> None:
        async with FlowKit.open(tmp_path) as kit:
            value = bytes(range(256))
            buried = await bury(kit, value, key, [("reason", b"theirs"), ("x", b"\xfe")])
            assert (buried.key, buried.value) == (key, value)
            assert buried.headers[:2] == (("reason", b"theirs"), ("x", b"\xfe"))
            assert dict(buried.headers)["reason"] == b"invalid"
            assert dict(buried.headers)["schema"] == b"dead_letter/1"
            assert not [f for f in kit.channel.frames if b"dead" in f]

    run()


@simulated
async def test_a_dead_letter_too_large_keeps_headers_hash_and_beginning(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, producer=PickyProducer()) as kit:
        value = b"0123456789" * 50_000
        buried = await bury(kit, value, headers=[("a", b"b")])
        assert buried.value == value[:KEPT_BYTES]
        headers = dict(buried.headers)
        assert headers["sha256"] == hashlib.sha256(value).hexdigest().encode()
        assert headers["length"] == b"500000"
        assert (headers["a"], headers["reason"]) == (b"b", b"invalid")


@simulated
async def test_a_dead_letter_with_huge_headers_or_key_is_buried_too(tmp_path: Path) -> None:
    class Roomier(PickyProducer):
        limit = 250_000

    async with FlowKit.open(tmp_path, producer=Roomier()) as kit:
        buried = await bury(kit, b"small", b"k" * 300_000, [("huge", b"h" * 300_000), ("a", b"b")])
        assert buried.value == b"small"
        headers = dict(buried.headers)
        assert "huge" not in headers
        assert (headers["a"], headers["reason"]) == (b"b", b"invalid")


@simulated
async def test_a_dead_letter_waits_for_its_broker(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.producer.error = BrokerError("away")
        assert await bury(kit, b"x") is None
        kit.producer.error = None
        await asyncio.sleep(2)
        assert [r.value for r in kit.producer.records if r.topic == DLQ] == [b"x"]


@simulated
async def test_without_a_broker_there_is_nowhere_to_bury(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, channels=("websocket",)) as kit:
        letter = kit.outbox.dead_letter(key=None, value=b"x", headers=(), why={})
        assert letter.channels == ()
        kit.outbox.latest("account_info", {})
        assert not kit.outbox._latest


# --- states


@simulated
async def test_of_a_state_only_the_newest_is_told(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.producer.connected = False
        kit.run("states")
        for n in range(5):
            kit.outbox.latest("account_info", {"n": n})
            kit.outbox.latest("connection_status", {"n": 10 + n}, slot="connection_status:redpanda")
        await asyncio.sleep(1)
        kit.producer.connected = True
        await asyncio.sleep(1)
        assert told(kit) == [4, 14]
        assert await depth(kit) == {}


@simulated
async def test_a_state_the_broker_did_not_take_is_told_again_unless_it_never_will(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.run("states")
        kit.producer.error = BrokerError("once")
        kit.outbox.latest("account_info", {"n": 1})
        await asyncio.sleep(0.5)
        kit.producer.error = None
        await asyncio.sleep(2)
        assert told(kit) == [1]
        kit.producer.error = RecordRefused("never", "too_large")
        kit.outbox.latest("account_info", {"n": 2})
        await asyncio.sleep(2)
        kit.producer.error = None
        kit.outbox.latest("account_info", {"n": 3})
        await asyncio.sleep(1)
        assert told(kit) == [1, 3]


# --- the rest


@simulated
async def test_drained_when_nothing_waits_for_the_channels(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        await announce(kit, 1)
        waiting = asyncio.create_task(kit.outbox.drained(["redpanda"]))
        await asyncio.sleep(1)
        assert not waiting.done()
        kit.run("outbox-redpanda")
        await waiting
        await kit.outbox.drained([])
        assert await depth(kit) == {"websocket": 1}


@simulated
async def test_a_commit_that_fails_announces_nothing(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        nothing = changes.IntentMoved(magic=1, state="closed", at_msc=1)
        with pytest.raises(JournalRejected):
            await kit.outbox.commit(kit.outbox.event("x", {}), nothing)
        assert kit.outbox.stats.announced == 0
