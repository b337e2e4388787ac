"""What must hold when everything has come to rest: every signal has its one result, nothing is left open or unread."""

import json
import sqlite3
from collections import defaultdict

from support.simulation.broker import DLQ, EVENTS, SIGNALS, Broker
from support.simulation.signals import Signal
from support.simulation.traffic import Traffic
from support.simulation.world import World

FINAL = {"filled", "partial", "placed", "modified", "cancelled", "closed", "rejected", "denied", "abandoned"}


class Accounts:
    """The topics against the journal, at the end.

    Args:
        db: the journal.
    """

    def __init__(self, world: World, broker: Broker, traffic: Traffic, db: sqlite3.Connection) -> None:
        self.world, self.broker, self.traffic, self.db = world, broker, traffic, db

    def check(self) -> None:
        """All of it."""
        finals = self._finals()
        self._check_inbox(finals)
        self._check_dead(finals)
        self._check_rest()

    def _finals(self) -> dict[str, set[str]]:
        """The final results of each signal, by their events."""
        finals: dict[str, set[str]] = defaultdict(set)
        for _, value, _ in self.broker.published.get(EVENTS, []):
            message = json.loads(value or b"{}")
            if message["type"] != "order_result":
                continue
            data = message["data"]
            if data["status"] in FINAL and data["supersedes"] is None and data["signal_id"]:
                finals[data["signal_id"]].add(message["event_id"])
        return finals

    def _kept(self, signal: Signal) -> bool:
        """Whether a record of the signal must have been read."""
        return any(r.offset >= self.broker.signals[r.partition].excused for r in signal.records)

    def _check_inbox(self, finals: dict[str, set[str]]) -> None:
        inbox = dict(self.db.execute("SELECT key, status FROM signals").fetchall())
        for key, status in inbox.items():
            if status is None:
                self.world.breach("results", f"{key} has no final result")
            elif not key.startswith("cmd-") and len(finals[key]) != 1:
                self.world.breach("results", f"{key} has {len(finals[key])} final results: {sorted(finals[key])}")
        for signal in self.traffic.signals.values():
            if signal.sort == "inbox" and self._kept(signal) and signal.key not in inbox:
                self.world.breach("results", f"{signal.key} was on the topic and is not in the inbox")
            if signal.sort != "inbox" and signal.key in inbox:
                self.world.breach("P7", f"{signal.key} is in the inbox: {signal.sort} {signal.data!r}")

    def _check_dead(self, finals: dict[str, set[str]]) -> None:
        letters = {value for _, value, _ in self.broker.published.get(DLQ, [])}
        for signal in self.traffic.signals.values():
            if signal.sort != "dead" or not self._kept(signal):
                continue
            if signal.whole not in letters:
                self.world.breach("P7", f"a dead letter is missing: {signal.whole!r}")
            if signal.signal_id and not finals[signal.signal_id]:
                self.world.breach("results", f"{signal.signal_id} cannot be read and was not refused")

    def _check_rest(self) -> None:
        left = "SELECT magic, key, state FROM intents WHERE state IN ('sending', 'unknown')"
        if intents := self.db.execute(left).fetchall():
            self.world.breach("results", f"intents without an outcome: {intents}")
        stored = "SELECT partition, next_offset FROM offsets WHERE topic = ?"
        offsets = dict(self.db.execute(stored, (SIGNALS,)).fetchall())
        for partition, log in self.broker.signals.items():
            read = max(offsets.get(partition, 0), log.excused)
            # The offset behind what concerns nobody here becomes durable with the next record.
            if read < self._last_for_us(partition) or read > log.end:
                self.world.breach("P7", f"partition {partition} is read up to {offsets.get(partition)} of {log.end}")

    def _last_for_us(self, partition: int) -> int:
        """The offset behind the last record of a partition that is neither foreign nor forged nor a tombstone."""
        ours = (signal.records for signal in self.traffic.signals.values() if signal.sort != "skipped")
        return max((r.offset + 1 for records in ours for r in records if r.partition == partition), default=0)
