"""The journal against a dictionary: whatever is committed, in whatever order and grouping, with closes in between."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.properties import heavy

from mt5_bridge.journal import Journal, JournalConflict, JournalRejected
from mt5_bridge.journal.changes import Announced, IntentMoved, IntentOpened, OutboxDone, SignalReceived, SignalSettled

T = TypeVar("T")
KEYS = st.sampled_from("abcd")
MAGICS = st.integers(1, 4)
STATES = st.sampled_from(["filled", "unknown", "rejected"])


class JournalMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.journal = self.run(Journal.open(self.folder / "journal.db"))
        self.signals: dict[str, str | None] = {}
        self.intents: dict[int, tuple[str, str]] = {}
        self.outbox: list[str] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @rule(key=KEYS, magic=MAGICS)
    def receive_with_intent(self, key: str, magic: int) -> None:
        signal = SignalReceived(
            key=key, signal_id=key, source="", account="", symbol="", action="", payload=b"", received_msc=0
        )
        intent = IntentOpened(magic=magic, key=key, symbol="", action="", request=b"", opened_msc=0, volume=1.0)
        try:
            self.run(self.journal.commit(signal, intent))
        except JournalConflict:
            assert key in self.signals
        except JournalRejected:
            assert magic in self.intents
        else:
            assert key not in self.signals
            assert magic not in self.intents
            self.signals[key] = None
            self.intents[magic] = (key, "sending")

    @rule(key=KEYS, event_id=st.sampled_from("xyz"))
    def settle_and_announce(self, key: str, event_id: str) -> None:
        settled = SignalSettled(key=key, status="done", reason="", event_id=event_id, result=b"", at_msc=0)
        event = Announced(event_id=event_id, type="t", key="k", payload=b"", channels=("redpanda",), at_msc=0)
        try:
            self.run(self.journal.commit(event, settled))
        except JournalRejected:
            assert self.signals.get(key, "done") == "done"
        else:
            assert self.signals[key] is None
            self.signals[key] = "done"
            self.outbox.append(event_id)

    @rule(magic=MAGICS, state=STATES)
    def move(self, magic: int, state: str) -> None:
        try:
            self.run(self.journal.commit(IntentMoved(magic=magic, state=state, at_msc=1)))
        except JournalRejected:
            assert magic not in self.intents
        else:
            self.intents[magic] = (self.intents[magic][0], state)

    @rule(count=st.integers(0, 2))
    def deliver(self, count: int) -> None:
        rows = self.run(self.journal.outbox("redpanda", 0, count)) if count else []
        self.run(self.journal.commit(OutboxDone(channel="redpanda", ids=tuple(row.id for row in rows))))
        del self.outbox[:count]

    @rule()
    def close_and_open(self) -> None:
        self.run(self.journal.close())
        self.journal = self.run(Journal.open(self.folder / "journal.db"))

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        seen = self.run(self.journal.seen("abcd"))
        assert {key: row.status for key, row in seen.items()} == self.signals
        by_magic = self.run(self.journal.intents_by_magic(range(1, 5)))
        assert {magic: (row.key, row.state) for magic, row in by_magic.items()} == self.intents
        unknown = {row.magic for row in self.run(self.journal.open_intents())}
        assert unknown == {magic for magic, (_, state) in self.intents.items() if state in ("sending", "unknown")}
        assert [row.event_id for row in self.run(self.journal.outbox("redpanda"))] == self.outbox
        assert [row.key for row in self.run(self.journal.waiting())] == [
            key for key, status in self.signals.items() if status is None
        ]

    def teardown(self) -> None:
        self.run(self.journal.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)


TestJournalAgainstADictionary = JournalMachine.TestCase
TestJournalAgainstADictionary.settings = settings(max_examples=heavy(25), stateful_step_count=25)
