"""Judges the halt: it latches at once, only a person lifts it, and what it tells is true (P3, P4, P6, P8, P10)."""

import json
import sqlite3
from typing import Any

from support.simulation.books import own_ledger
from support.simulation.world import World

from mt5_bridge.app.bridge import Bridge
from mt5_bridge.core.halt import Halt, HaltState
from mt5_bridge.core.times import MINUTE, parse_time
from mt5_bridge.simulator import api

_STRICT = {HaltState.ACTIVE: 0, HaltState.REDUCING: 1, HaltState.HALTED: 2}
_LAG_MS = 4_000
"""A position that is younger than this may not be in any list yet."""
_FILE_WITHIN_S = 10


class HaltJudge:
    """Watches the latch of each life, and what people and rules want of it.

    Args:
        throttle_latch: THROTTLE_LATCH.

    Attributes:
        bridge: the one that runs; None between lives.
        stopped: a stop has been handed to the bridge, or it has latched HALTED, and no resume came after it.
        flatten: a stop asked for everything to be closed.
    """

    def __init__(self, world: World, throttle_latch: int) -> None:
        self.world = world
        self.bridge: Bridge | None = None
        self.stopped = self.flatten = False
        self._flatten_msc = 0
        self._throttle_latch = throttle_latch
        self._throttled: dict[str, int] = {}
        self._counted_since_msc = 0
        self._state = self._written = HaltState.ACTIVE
        self._written_msc = 0
        self._told_durable = False
        """The bridge has said of the stop that it will survive."""
        self._lifting: set[Any] = set()
        """Who has resumed: the words that are not refused, and since which nothing was latched."""
        self._stops: set[Any] = set()
        self._halts = 0

    @property
    def state(self) -> HaltState:
        """The bridge's own."""
        assert self.bridge is not None
        return self.bridge.flows.latch.halt.state

    # --- lives

    def life_begins(self, bridge: Bridge) -> None:
        """Its rooms are open: it must be as strict as the last one was, as far as that became durable."""
        self.bridge, state = bridge, bridge.flows.latch.halt.state
        least = HaltState.HALTED if self._told_durable else self._written
        self.world.note("opened", state.value)
        if _STRICT[state] < _STRICT[least] and not self._lifting:
            self.world.breach("P3", f"a restart has lifted a halt: the bridge is {state.value}, it was {least.value}")
        self._state, self.stopped = state, state is HaltState.HALTED
        self._told_durable = self.stopped
        self._lifting.clear()
        self._count_anew()
        bridge.flows.latch.on_change(self._changed)

    def life_ends(self) -> None:
        """Nobody is there to be judged."""
        self.bridge = None
        if self._written is HaltState.ACTIVE and self._written_msc > self._flatten_msc:
            self.flatten = False  # lifted for good, though the latch file may not know it yet, and halt the next life

    def journal_written(self, db: sqlite3.Connection) -> None:
        """What is durable now no restart may lift."""
        row = db.execute("SELECT state, at_msc FROM halts ORDER BY id DESC LIMIT 1").fetchone()
        state, self._written_msc = row or (HaltState.ACTIVE, 0)
        self._written = HaltState(state)

    def _changed(self, halt: Halt) -> None:
        self.world.note("halt", halt.state.value, halt.by)
        if _STRICT[halt.state] < _STRICT[self._state] and not self._lifting:
            self.world.breach("P3", f"{self._state.value} becomes {halt.state.value}, and nobody has resumed")
        if halt.state is HaltState.ACTIVE:
            self._count_anew()
        self._state = halt.state
        self._lifting.clear()
        self.stopped = halt.state is HaltState.HALTED
        self._halts += self.stopped
        if halt.by == "file":
            self.stop_given(flatten=True)

    # --- people

    def handed(self, message: dict[str, Any]) -> None:
        """The bridge has a frame of the backend: this moment it begins to act on it."""
        kind, word = message.get("type"), message.get("request_id")
        if kind == "emergency_stop":
            data = message["data"]
            again = word in self._stops and self.bridge is not None and self.state is HaltState.HALTED
            self._stops.add(word)
            everything = data.get("close_positions") is not False and data.get("scope") != "mine"
            self.stop_given(flatten=everything and not again)
            self.world.loop.call_soon(self._check_latched)
        elif kind == "resume_trading":
            self.resume_given(word)

    def stop_given(self, *, flatten: bool) -> None:
        """From now on nothing that raises risk may leave."""
        asked_before = self.flatten and self.stopped
        if flatten and not asked_before:
            self._flatten_msc = self.world.now_ms()
        self.flatten = flatten or asked_before
        self.stopped = True
        self._lifting.clear()

    def file_made(self) -> None:
        """Somebody has put the stop's file there: it is found, unless the bridge ends before."""
        if self.bridge is not None and self.state is not HaltState.HALTED:
            self.world.after(1.0, self._look_for_stop, self.bridge, self._halts, 1)

    def _look_for_stop(self, bridge: Bridge, halts: int, seconds: int) -> None:
        if bridge is not self.bridge or self._halts > halts:
            return
        if seconds == _FILE_WITHIN_S:
            self.world.breach("P3", f"the stop's file has not stopped the bridge within {seconds} s")
        else:  # in steps: when the PC sleeps, only one of them is cut short
            self.world.after(1.0, self._look_for_stop, bridge, halts, seconds + 1)

    def resume_given(self, word: Any) -> None:
        """Whether anything is lifted only the bridge knows now."""
        self.stopped = self._told_durable = False
        self._lifting.add(word)

    def resume_refused(self, word: Any) -> None:
        """And it has lifted nothing."""
        self._lifting.discard(word)
        if not self._lifting:
            self.stopped = self.bridge is not None and self.state is HaltState.HALTED

    def _check_latched(self) -> None:
        if self.bridge is not None and self.state is not HaltState.HALTED:
            self.world.breach("P6", f"a stop was handed to the bridge, and it went on without latching: {self._state}")

    # --- what the bridge does and tells

    def opening_leaves(self, comment: str) -> None:
        """An order that raises risk goes to the terminal."""
        if self.stopped or self.state is not HaltState.ACTIVE:
            self.world.breach("P3", f"{comment} opens while {self.state.value}, stopped: {self.stopped}")

    def opening_begins(self, comment: str) -> None:
        """The terminal is told to send an order that raises risk: what was latched before then has taken it back."""
        if self.state is not HaltState.ACTIVE:
            self.world.breach("P3", f"order_send of {comment} begins while {self.state.value}")

    def heard(self, message: dict[str, Any]) -> None:
        """The backend has a frame of the bridge."""
        kind, data = message["type"], message["data"]
        if kind == "command_result" and data["command"] == "emergency_stop" and self.stopped:
            answer = data.get("data") or {}
            if answer.get("state") != "halted":
                self.world.breach("P3", f"a stop is answered with {answer}")
            self._told_durable |= bool(answer.get("durable"))
        if kind == "command_result" and data["command"] == "resume_trading" and not data["success"]:
            self.resume_refused(message.get("request_id"))
        if kind == "halt_changed" and data["phase"] == "done" and not data["survivors"]:
            self._check_flat(parse_time(message["timestamp"]))

    def _check_flat(self, told_msc: int) -> None:
        ledger = own_ledger()
        if not (self.flatten and self.stopped) or told_msc <= self._flatten_msc or ledger is None:
            return
        market = api._state.functions.terminal.market
        there = [p.ticket for p in ledger.positions.values() if market.utc(p.time_msc) < told_msc - _LAG_MS]
        if there:
            self.world.breach("P8", f"the stop says that the account is flat, and it holds {there}")

    def published(self, value: bytes) -> None:
        """An event is on its topic: too many signals over the rate must have latched."""
        if b'"throttled"' not in value:
            return
        message = json.loads(value)
        data, at_msc = message["data"], parse_time(message["timestamp"])
        if message["type"] != "order_result" or data["reason"] != "throttled" or at_msc <= self._counted_since_msc:
            return
        self._throttled.setdefault(data["signal_id"], at_msc)
        recent = [time for time in self._throttled.values() if abs(time - at_msc) < MINUTE]
        if len(recent) >= self._throttle_latch and self.bridge is not None and self.state is HaltState.ACTIVE:
            self.world.breach("P10", f"{len(recent)} signals over the rate within a minute latch nothing")

    def _count_anew(self) -> None:
        self._throttled.clear()
        self._counted_since_msc = self.world.now_ms()

    # --- the end

    def verdict(self) -> None:
        """Halted, and everything was to be closed: nothing is left, late fills included."""
        ledger = own_ledger()
        if ledger is None or not (self.stopped and self.flatten):
            return
        left = sorted((*ledger.positions, *ledger.orders))
        if left and self.state is HaltState.HALTED:
            self.world.breach("P4", f"halted, and still there: {left}")
