"""What is committed is found again, together or not at all, and the rules each change has."""

import asyncio
import sqlite3
from pathlib import Path

import msgspec
import pytest

from mt5_bridge.core.errors import InstanceError, JournalError
from mt5_bridge.core.model import Cursor
from mt5_bridge.journal import Journal, JournalConflict, JournalRejected, NotEntered, prune
from mt5_bridge.journal import journal as journal_module
from mt5_bridge.journal.apply import COMMAND_MEMORY_MS
from mt5_bridge.journal.changes import (
    Announced,
    Audited,
    Change,
    CommandAnswered,
    CursorMoved,
    HaltChanged,
    IntentMoved,
    IntentOpened,
    Memo,
    OffsetMoved,
    OffsetReached,
    OutboxDone,
    ResultCorrected,
    SignalReceived,
    SignalSettled,
    TopicReset,
)
from mt5_bridge.journal.prune import WALK, Place
from mt5_bridge.journal.rows import AuditRow, StoredAnswer


def received(key: str, *, at: int = 1_000, signal_id: str = "") -> SignalReceived:
    return SignalReceived(
        key=key,
        signal_id=signal_id or key,
        source="redpanda",
        topic="trading_signals",
        partition=1,
        offset=41,
        account="5000001",
        symbol="EURUSD",
        action="BUY",
        payload=b"{}",
        received_msc=at,
    )


def settled(key: str, *, status: str = "filled", event_id: str = "e1") -> SignalSettled:
    return SignalSettled(key=key, status=status, reason="", event_id=event_id, result=b"r", at_msc=2_000)


def announced(event_id: str) -> Announced:
    return Announced(event_id=event_id, type="t", key="", payload=b"p", channels=("redpanda",), at_msc=1)


def intent(magic: int, key: str, *, leg: int = 0, at: int = 1_500) -> IntentOpened:
    return IntentOpened(
        magic=magic, key=key, leg=leg, symbol="EURUSD", action="BUY", request=b"q", opened_msc=at, volume=0.1, risk=12.5
    )


@pytest.mark.parametrize(("request_id", "asked"), [("r-1", "r-1"), (17, "17"), ("17", "17"), (10**30, str(10**30))])
async def test_a_signal_is_found_by_its_request(journal: Journal, request_id: str | int, asked: str) -> None:
    sent = msgspec.structs.replace(received("k1"), request_id=request_id, sender="ann")
    await journal.commit(sent, received("k2", signal_id="other"))
    story = await journal.signal(asked)
    assert story is not None
    kept = request_id if request_id != 10**30 else str(10**30)
    assert (story.signal.key, story.signal.request_id, story.signal.sender) == ("k1", kept, "ann")
    assert await journal.signal("1") is None, "no part of one"
    [waiting, _] = await journal.waiting()
    assert (waiting.request_id, waiting.sender) == (kept, "ann")


async def test_a_signal_of_the_gateway_is_found_by_either_id_of_its_request(journal: Journal) -> None:
    for number, sender in enumerate(("ann", "bob"), 1):
        one = received(f"k{number}")
        await journal.commit(
            msgspec.structs.replace(one, request_id=f"{sender}/key-1", sender=sender, correlation=f"http-{number}")
        )
    for asked, key in (("http-1", "k1"), ("http-2", "k2"), ("ann/key-1", "k1"), ("key-1", "k2")):
        story = await journal.signal(asked)
        assert story is not None, asked
        assert story.signal.key == key, asked
    for asked in ("http-", "ey-1", "/key-1", "%", ""):
        assert await journal.signal(asked) is None, asked


async def test_a_signals_life_is_told_in_one_story(journal: Journal) -> None:
    await journal.commit(received("k1", signal_id="s1"), intent(7, "k1"), intent(8, "k1", leg=1))
    assert [each.key for each in await journal.waiting()] == ["k1"]
    assert [each.magic for each in await journal.open_intents()] == [7, 8]
    await journal.commit(
        IntentMoved(magic=7, state="filled", at_msc=1_900, retcode=10009, order=70, deal=71, position=70, volume=0.1),
        IntentMoved(magic=8, state="abandoned", at_msc=1_950, detail="not found"),
        settled("k1", status="partial"),
        Announced(event_id="e1", type="order_result", key="5", payload=b"r", channels=("redpanda",), at_msc=2_000),
    )
    await journal.commit(IntentMoved(magic=8, state="filled", at_msc=9_000, order=80))
    correction = ResultCorrected(
        key="k1", status="filled", reason="", event_id="e2", supersedes="e1", result=b"r2", at_msc=9_000
    )
    await journal.commit(correction)

    story = await journal.signal("s1")
    assert story is not None
    assert story == await journal.signal("k1")
    assert (story.signal.status, story.signal.event_id, story.signal.result) == ("partial", "e1", b"r")
    assert (story.signal.topic, story.signal.partition, story.signal.offset) == ("trading_signals", 1, 41)
    first, second = story.intents
    assert (first.state, first.retcode, first.order, first.deal, first.filled_volume) == ("filled", 10009, 70, 71, 0.1)
    assert (second.state, second.order, second.detail, second.risk) == ("filled", 80, "not found", 12.5)
    assert [(each.event_id, each.supersedes) for each in story.corrections] == [("e2", "e1")]
    assert [(channel, row.event_id) for channel, row in story.events] == [("redpanda", "e1")]
    assert await journal.waiting() == []
    assert await journal.open_intents() == []
    assert await journal.signal("unheard of") is None


async def test_a_signal_is_received_once(journal: Journal) -> None:
    await journal.commit(received("k1"))
    with pytest.raises(JournalConflict) as conflict:
        await journal.commit(intent(1, "k1"), received("k1"), OffsetMoved(topic="t", partition=0, next_offset=9))
    assert conflict.value.key == "k1"
    assert not conflict.value.retriable
    assert await journal.intents("k1") == []
    assert await journal.offsets("t") == {}


async def test_many_signals_of_one_call_enter_together_or_not_at_all(journal: Journal) -> None:
    many = [received(f"k{i}") for i in range(300)]
    await journal.commit(*many, *[announced(f"e{i}") for i in range(300)])
    assert [each.key for each in await journal.waiting()] == [f"k{i}" for i in range(300)]
    assert [row.event_id for row in await journal.outbox("redpanda")] == [f"e{i}" for i in range(300)]
    for bad, key in (([*fresh("a"), received("k7")], "k7"), ([*fresh("b"), received("b3"), received("b9")], "b3")):
        with pytest.raises(JournalConflict) as conflict:
            await journal.commit(*bad)
        assert conflict.value.key == key
    assert len(await journal.waiting()) == 300


def fresh(start: str) -> list[SignalReceived]:
    return [received(f"{start}{i}") for i in range(100)]


async def test_a_signal_may_enter_with_its_result(journal: Journal) -> None:
    done = SignalReceived(**{**msgspec.structs.asdict(received("k1")), "settled": settled("k1", status="denied")})
    await journal.commit(done, received("k2"))
    row = (await journal.seen(["k1"]))["k1"]
    assert (row.status, row.event_id, row.result, row.settled_msc) == ("denied", "e1", b"r", 2_000)
    assert [each.key for each in await journal.waiting()] == ["k2"]
    with pytest.raises(JournalRejected):
        await journal.commit(settled("k1"))


async def test_a_signal_does_not_enter_with_the_result_of_another(journal: Journal) -> None:
    mixed = SignalReceived(**{**msgspec.structs.asdict(received("k1")), "settled": settled("k2", status="denied")})
    with pytest.raises(JournalRejected, match="k2"):
        await journal.commit(received("k0"), mixed)
    assert await journal.waiting() == []


async def test_many_acknowledged_events_are_deleted_and_no_others(journal: Journal) -> None:
    await journal.commit(*[announced(f"e{i}") for i in range(1_000)])
    ids = [row.id for row in await journal.outbox("redpanda", 0, 2_000)]
    await journal.commit(OutboxDone(channel="websocket", ids=tuple(ids)))
    assert len(await journal.outbox("redpanda", 0, 2_000)) == 1_000
    await journal.commit(OutboxDone(channel="redpanda", ids=tuple(ids[:-1])))
    assert [row.event_id for row in await journal.outbox("redpanda")] == ["e999"]


async def test_seen_takes_many_keys(journal: Journal) -> None:
    await asyncio.gather(*[journal.commit(received(f"k{i}")) for i in range(0, 1_200, 2)])
    found = await journal.seen([f"k{i}" for i in range(1_200)])
    assert sorted(found) == sorted(f"k{i}" for i in range(0, 1_200, 2))
    assert await journal.seen([]) == {}


@pytest.mark.parametrize(
    ("before", "change"),
    [
        ([], settled("k1")),
        ([received("k1"), settled("k1")], settled("k1", event_id="e9")),
        ([received("k1"), intent(5, "k1")], intent(5, "k2")),
        ([], IntentMoved(magic=5, state="filled", at_msc=1)),
        (
            [received("k1")],
            ResultCorrected(key="k1", status="", reason="", event_id="e", supersedes="d", result=b"", at_msc=1),
        ),
    ],
)
async def test_a_change_that_contradicts_the_journal_is_rejected(
    journal: Journal, before: list[Change], change: Change
) -> None:
    if before:
        await journal.commit(*before)
    with pytest.raises(JournalRejected):
        await journal.commit(Memo(name="with it", value=b"1"), change)
    assert await journal.memo("with it") is None
    assert journal.healthy


async def test_a_correction_is_written_once(journal: Journal) -> None:
    again = ResultCorrected(key="k", status="filled", reason="", event_id="e2", supersedes="e1", result=b"", at_msc=1)
    await journal.commit(received("k"), settled("k"), again)
    with pytest.raises(JournalRejected):
        await journal.commit(again)


async def test_offsets_move_forward_only_unless_the_topic_is_made_anew(journal: Journal) -> None:
    await journal.commit(OffsetMoved(topic="t", partition=0, next_offset=10))
    await journal.commit(OffsetMoved(topic="t", partition=0, next_offset=7))
    await journal.commit(OffsetMoved(topic="t", partition=3, next_offset=1))
    assert await journal.offsets("t") == {0: 10, 3: 1}
    await journal.commit(TopicReset(topic="t", partition=0, next_offset=2))
    assert await journal.offsets("t") == {0: 2, 3: 1}


async def test_cursors_move_forward_only_but_across_epochs(journal: Journal) -> None:
    await journal.commit(CursorMoved(symbol="EURUSD", epoch=0, time_msc=100, count=2))
    await journal.commit(CursorMoved(symbol="EURUSD", epoch=0, time_msc=100, count=1))
    await journal.commit(CursorMoved(symbol="EURUSD", epoch=0, time_msc=99, count=9))
    assert await journal.cursors() == {"EURUSD": Cursor(100, 2, 0)}
    await journal.commit(CursorMoved(symbol="EURUSD", epoch=1, time_msc=50, count=1))
    assert await journal.cursors() == {"EURUSD": Cursor(50, 1, 1)}


async def test_the_outbox_is_a_queue_for_each_channel(journal: Journal) -> None:
    both = ("redpanda", "websocket")
    for i in range(3):
        await journal.commit(
            Announced(event_id=f"e{i}", type="x", key="k", payload=b"%d" % i, channels=both, at_msc=i * 10)
        )
    assert await journal.outbox_depth() == {"redpanda": 3, "websocket": 3}
    rows = await journal.outbox("redpanda")
    assert [row.payload for row in rows] == [b"0", b"1", b"2"]
    assert [row.event_id for row in await journal.outbox("redpanda", rows[0].id, 1)] == ["e1"]
    await journal.commit(OutboxDone(channel="redpanda", ids=(rows[0].id, rows[1].id, 999)))
    assert [row.event_id for row in await journal.outbox("redpanda")] == ["e2"]
    # An acknowledgement of one channel does not take from the other.
    other = (await journal.outbox("websocket"))[0]
    await journal.commit(OutboxDone(channel="redpanda", ids=(other.id,)))
    assert await journal.age_out("websocket", 20) == 2
    assert [row.event_id for row in await journal.outbox("websocket")] == ["e2"]


async def test_the_last_halt_is_the_state(journal: Journal) -> None:
    assert await journal.halt() is None
    for at, state in enumerate(("halted", "active")):
        await journal.commit(HaltChanged(state=state, reason="r", by="me", at_msc=at, origin="cli"))
    last = await journal.halt()
    assert last is not None
    assert (last.state, last.by, last.origin) == ("active", "me", "cli")
    assert [each.state for each in await journal.halts()] == ["active", "halted"]


async def test_the_first_answer_to_a_command_stays_a_day(journal: Journal) -> None:
    await journal.commit(CommandAnswered(request_id="r", command="close", answer=b"1", at_msc=0))
    await journal.commit(CommandAnswered(request_id="r", command="close", answer=b"2", at_msc=COMMAND_MEMORY_MS - 1))
    assert await journal.answer("r") == StoredAnswer("r", "close", b"1", 0)
    await journal.commit(CommandAnswered(request_id="r", command="close", answer=b"3", at_msc=COMMAND_MEMORY_MS))
    assert await journal.answer("r") == StoredAnswer("r", "close", b"3", COMMAND_MEMORY_MS)
    assert await journal.answer("other") is None


async def test_memos_audit_and_magics(journal: Journal) -> None:
    await journal.commit(Memo(name="day", value=b"1"), Memo(name="day", value=b"2"))
    assert await journal.memo("day") == b"2"
    await journal.commit(Audited(at_msc=1, who="w", what="resume"), Audited(at_msc=2, who="w", what="x", detail="d"))
    assert await journal.audit() == [AuditRow(2, "w", "x", "d"), AuditRow(1, "w", "resume", "")]
    await journal.commit(intent(1, "a", at=10), intent(2**53 - 1, "a", leg=1, at=20))
    assert await journal.our_magics_among([1, 2, 2**53 - 1]) == {1, 2**53 - 1}
    assert set(await journal.intents_by_magic([1, 5])) == {1}
    assert await journal.magics_opened_since(15) == [2**53 - 1]


async def test_prune_forgets_what_cannot_matter(journal: Journal) -> None:
    await journal.commit(received("old"), intent(1, "old"), settled("old"))
    await journal.commit(IntentMoved(magic=1, state="rejected", at_msc=1))
    await journal.commit(received("traded"), intent(2, "traded"), settled("traded"))
    await journal.commit(IntentMoved(magic=2, state="filled", at_msc=1, order=5))
    await journal.commit(received("waits"), intent(3, "waits"))
    await journal.commit(received("lost"), intent(4, "lost"), settled("lost"))
    await journal.commit(
        IntentMoved(magic=4, state="unknown", at_msc=1), IntentMoved(magic=4, state="abandoned", at_msc=1)
    )
    await journal.commit(received("young", at=9_000), settled("young"))
    correction = ResultCorrected(key="old", status="", reason="", event_id="c", supersedes="e1", result=b"", at_msc=1)
    await journal.commit(correction, Audited(at_msc=1, who="w", what="x"))
    await journal.commit(CommandAnswered(request_id="r", command="c", answer=b"", at_msc=1))
    for state in ("halted", "active"):
        await journal.commit(HaltChanged(state=state, reason="", by="", at_msc=1, origin=""))
    for leg, action in enumerate(("MODIFY", "CANCEL", "trailing_stop", "break_even"), 5):
        opened = msgspec.structs.replace(intent(leg, "traded", leg=leg), action=action)
        await journal.commit(opened, IntentMoved(magic=leg, state="modified", at_msc=1, position=5, order=5))
    await journal.commit(msgspec.structs.replace(intent(9, "traded", leg=9), action="trailing_stop"))
    assert await journal.prune(5_000) > 0
    assert set(await journal.seen(["old", "traded", "waits", "young"])) == {"waits", "young"}
    assert await journal.our_magics_among(range(1, 10)) == {2, 3, 4, 9}, "what was given up may still turn up"
    assert [each.state for each in await journal.halts()] == ["active"]
    assert await journal.answer("r") is None
    assert await journal.audit() == []
    assert await journal.prune(5_000) == 0


async def test_pruning_looks_at_every_old_intent_and_at_none_twice(journal: Journal) -> None:
    """Executed ones are kept for good, so there may be any number of them."""
    count = 2 * WALK + 10
    for magic in range(1, count + 1):
        state, order = ("filled", magic) if magic % 3 else ("rejected", None)
        await journal.commit(intent(magic, f"k{magic}"), IntentMoved(magic=magic, state=state, at_msc=1, order=order))
    looked: list[int] = []
    walked = prune.prune_intents

    def noted(db: sqlite3.Connection, before_msc: int, after: Place) -> tuple[int, Place | None]:
        looked.append(after[1])
        return walked(db, before_msc, after)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "prune_intents", noted)
        assert await journal.prune(5_000) == count // 3
        assert looked == [0, WALK, 2 * WALK]
        assert await journal.prune(5_000) == 0
        assert looked[3:] == [2 * WALK]
    kept = await journal.our_magics_among(range(1, count + 1))
    assert kept == {magic for magic in range(1, count + 1) if magic % 3}


async def test_everything_is_there_after_a_reopen(path: Path) -> None:
    first = await Journal.open(path)
    await first.commit(received("k"), OffsetMoved(topic="t", partition=0, next_offset=5))
    await first.close()
    second = await Journal.open(path)
    assert set(await second.seen(["k"])) == {"k"}
    assert await second.offsets("t") == {0: 5}
    assert await second.size_bytes() > 0
    await second.close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["journal.db", "journal.db.lock"]


async def test_close_writes_what_waits(path: Path) -> None:
    journal = await Journal.open(path)
    commits = [asyncio.ensure_future(journal.commit(received(f"k{i}"))) for i in range(300)]
    await asyncio.sleep(0)  # each has handed its change over
    await journal.close()
    await journal.close()
    await asyncio.gather(*commits)
    with pytest.raises(JournalError, match="closed"):
        await journal.commit(received("late"))
    with pytest.raises(JournalError, match="closed"):
        await journal.memo("x")
    again = await Journal.open(path)
    assert len(await again.waiting()) == 300
    await again.close()


async def test_a_cancelled_commit_is_written_all_the_same(journal: Journal) -> None:
    commit = asyncio.ensure_future(journal.commit(received("k")))
    await asyncio.sleep(0)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    await journal.commit(Memo(name="after", value=b""))
    assert set(await journal.seen(["k"])) == {"k"}


async def test_a_second_bridge_on_the_same_folder_or_account_is_refused(tmp_path: Path) -> None:
    locks = tmp_path / "locks"
    first = await Journal.open(tmp_path / "a" / "journal.db", account="1@Live", lock_folder=locks)
    with pytest.raises(InstanceError):
        await Journal.open(tmp_path / "a" / "journal.db", account="2@Live", lock_folder=locks)
    with pytest.raises(InstanceError):
        await Journal.open(tmp_path / "b" / "journal.db", account="1@Live", lock_folder=locks)
    paper = await Journal.open(tmp_path / "b" / "journal.db", account=None, lock_folder=locks)
    tool = await Journal.open(tmp_path / "b" / "journal.db", lock=False)
    await tool.close()
    await paper.close()
    await first.close()
    after = await Journal.open(tmp_path / "b" / "journal.db", account="1@Live", lock_folder=locks)
    await after.close()


async def test_what_needs_an_offset_goes_with_it_or_not_at_all(journal: Journal) -> None:
    first = OffsetMoved(topic="t", partition=0, next_offset=5)
    behind = (OffsetReached("t", 0, 5), OffsetMoved(topic="t", partition=0, next_offset=9))
    for earlier in ((), (OffsetMoved(topic="t", partition=1, next_offset=50),), (first,)):
        if earlier:
            await journal.commit(*earlier)
        if earlier != (first,):
            with pytest.raises(NotEntered, match="before t/0/5"):
                await journal.commit(*behind)
    await asyncio.gather(journal.commit(*behind), journal.commit(OffsetReached("t", 0, 9)))
    assert await journal.offsets("t") == {0: 9, 1: 50}


async def test_an_intent_goes_with_its_signals_row_or_not_at_all(journal: Journal) -> None:
    mine = msgspec.structs.replace(intent(7, "k1"), received_msc=received("k1").received_msc)
    with pytest.raises(NotEntered, match="k1 is not in the inbox"):
        await journal.commit(mine)
    entered, opened = await asyncio.gather(journal.commit(received("k1")), journal.commit(mine))
    assert entered is opened is None
    assert [(one.magic, one.state) for one in await journal.intents("k1")] == [(7, "sending")]


async def test_an_intent_does_not_go_with_a_row_that_is_not_its_signals(journal: Journal) -> None:
    await journal.commit(received("k1"))
    other = msgspec.structs.replace(intent(7, "k1"), received_msc=received("k1").received_msc + 1)
    entered, opened = await asyncio.gather(
        journal.commit(received("k1")), journal.commit(other), return_exceptions=True
    )
    assert isinstance(entered, JournalConflict)
    assert isinstance(opened, NotEntered)
    assert opened.retriable
    assert await journal.intents("k1") == []


async def test_a_signal_with_its_result_opens_no_intent(journal: Journal) -> None:
    await journal.commit(received("k"), settled("k"))
    with pytest.raises(JournalRejected, match="result already"):
        await journal.commit(intent(1, "k"))
    assert await journal.intents("k") == []
