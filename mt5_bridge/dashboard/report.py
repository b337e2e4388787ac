"""What an emergency stop did, ticket by ticket. Pure."""

from collections.abc import Sequence
from typing import Any


class StopReport:
    """One stop, from the press of the button to the last ticket.

    Attributes:
        phase: `none`, `asked`, `latched`, `progress`, `done` or `failed`.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.phase = "none"
        self._by: str | None = None
        self._asked_msc: int | None = None
        self._answer_ms: int | None = None
        self._done_ms: int | None = None
        self._durable: bool | None = None
        self._at: str | None = None
        self._detail: str | None = None
        self._rows: dict[int, dict[str, Any]] = {}

    @classmethod
    def asked(
        cls, by: str, positions: Sequence[dict[str, Any]], orders: Sequence[dict[str, Any]], now_msc: int
    ) -> "StopReport":
        """Somebody pressed the button: everything open waits."""
        report = cls()
        report.phase, report._by, report._asked_msc = "asked", by, now_msc
        report._expect(positions, orders)
        return report

    def _expect(self, positions: Sequence[dict[str, Any]], orders: Sequence[dict[str, Any]]) -> None:
        for kind, things in (("position", positions), ("order", orders)):
            for thing in things:
                self._row(int(thing.get("ticket") or 0), kind, thing)

    def _row(self, ticket: int, kind: str, thing: dict[str, Any]) -> dict[str, Any]:
        if ticket not in self._rows:
            what = thing.get("side") or thing.get("order_type")
            self._rows[ticket] = {
                "ticket": ticket,
                "kind": kind,
                "symbol": thing.get("symbol"),
                "what": str(what).replace("_", " ").lower() if what else None,
                "volume": thing.get("volume"),
                "state": "waiting",
            }
        return self._rows[ticket]

    def answered(self, answer: dict[str, Any], now_msc: int) -> None:
        """The `command_result`, or `{success: False, error}` when there is none."""
        self._answer_ms = now_msc - (self._asked_msc or now_msc)
        data = answer.get("data")
        if answer.get("success") and isinstance(data, dict):
            self._durable, self._at = data.get("durable"), data.get("at")
            if self.phase == "asked":
                self.phase = "latched"
            self._detail = "; ".join(map(str, data.get("faults") or [])) or None
            return
        error = answer.get("error") or {}
        self.phase, self._detail = "failed", str(error.get("message") or error.get("code") or "no answer")

    def changed(
        self, halt: dict[str, Any], positions: Sequence[dict[str, Any]], orders: Sequence[dict[str, Any]], now_msc: int
    ) -> bool:
        """A `halt_changed`; returns whether it was about a stop."""
        phase = halt.get("phase")
        if halt.get("state") != "halted" or phase not in ("latched", "progress", "done"):
            return False
        if self._at is not None and halt.get("at") not in (None, self._at):
            self._begin()
        if self.phase in ("none", "failed"):
            self._asked_msc, self._by = now_msc, halt.get("by")
            self._expect(positions, orders)
        self._at = halt.get("at") or self._at
        self._by = halt.get("by") or self._by
        if self.phase != "done":
            self.phase = str(phase)
        self._book(halt)
        if phase == "done" and self._done_ms is None:
            self._done_ms = now_msc - (self._asked_msc or now_msc)
            self._detail = halt.get("detail") or self._detail
        return True

    def _book(self, halt: dict[str, Any]) -> None:
        for state, kind in (("cancelled", "order"), ("closed", "position"), ("survivors", "position")):
            for ticket in halt.get(state) or []:
                row = self._row(int(ticket), kind, {})
                row["state"] = "survivor" if state == "survivors" else state

    def told(self) -> dict[str, Any] | None:
        """For the page; None when there was no stop."""
        if self.phase == "none":
            return None
        return {
            "phase": self.phase,
            "by": self._by,
            "at": self._at,
            "asked": self._asked_msc,
            "answer_ms": self._answer_ms,
            "done_ms": self._done_ms,
            "durable": self._durable,
            "detail": self._detail,
            "rows": [dict(row) for row in self._rows.values()],
        }
