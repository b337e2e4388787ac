"""Judges a run by what the terminal's own books, the topics and the backend show: the promises P1 to P12.

What must hold at every moment is looked at whenever something happens that could break it: an order leaves, the books
change, the journal has written, the backend or a topic hears something. What must hold in the end is in `verdict`.
"""

import json
import sqlite3
from collections import defaultdict
from itertools import pairwise
from typing import Any

from support.simulation.broker import DLQ, EVENTS, SIGNALS, TICKS, Broker
from support.simulation.terminal import SimHost, Witness
from support.simulation.traffic import SKEW_MS, SYMBOLS, Signal, Traffic
from support.simulation.world import World

import mt5_bridge.simulator as paper
from mt5_bridge.app.bridge import Bridge
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.model import Deed, OrderRequest
from mt5_bridge.core.times import parse_time
from mt5_bridge.simulator import api
from mt5_bridge.simulator.core.records import Change, Deal

FINAL = {"filled", "partial", "placed", "modified", "cancelled", "closed", "rejected", "denied", "abandoned"}
MAY_BE_SENT_AGAIN = {10004, 10020, 10021, 10024, 10028}
"""Answers that say for certain that nothing was done, and that the same may be asked again."""
_BY_THE_SERVER = {4, 5, 6}
"""ORDER_REASON_ and DEAL_REASON_SL, TP, SO: nobody sent these; they carry their position's magic."""
_OUT_BY = 3
_LAG_MS = 10_000
_TAIL_MS = 5_000
_ROUNDING = 1e-6


class Oracle(Witness):
    """Watches one run.

    Attributes:
        bridge: the one that runs; None between lives.
        limits: the settings that limit, by name; None: off.
    """

    def __init__(self, world: World, broker: Broker, limits: dict[str, int | None]) -> None:
        self.world, self.broker, self.limits = world, broker, limits
        self.traffic: Traffic
        self.bridge: Bridge | None = None
        self.stopped = False
        """A stop has been handed to the bridge, and no resume after it."""
        self.durable_stop = False
        """And the bridge has said that it will survive."""
        self.flatten = False
        """And it asked for everything to be closed."""
        self.sends = self.fills = 0
        self._of_magic: dict[int, tuple[str, Deed, str, int]] = {}
        self._outcome: dict[int, int | None] = {}
        self._spent: dict[str, int | None] = {}
        """Comment of an opening → why it must not be sent again: the last answer, None for none."""
        self._orders: dict[int, set[int]] = defaultdict(set)
        self._opened_by: dict[str, set[int]] = defaultdict(set)
        self._closed_by: dict[str, float] = defaultdict(float)
        self._trades: set[int] = set()
        self._accounted: dict[int, int] = {}
        self._ticks_seen = 0
        self._published: dict[str, list[tuple[int, int]]] = {symbol: [] for symbol in SYMBOLS}

    def breach(self, promise: str, what: str) -> None:
        """See `World.breach`."""
        self.world.breach(promise, what)

    # --- orders on their way

    def order_leaves(self, host: SimHost, request: OrderRequest) -> None:
        self.sends += 1
        self._check_magic(request)
        if not _raises_risk(request):
            return
        self._check_halt(request)
        if not (host.connected and host.read_whole):
            self.breach("P8", f"order {request.magic} leaves before the account has been read: {request.comment}")
        if request.comment in self._spent:
            self.breach(
                "P2", f"{request.comment} is sent again after the answer {self._spent[request.comment]} (None: unknown)"
            )
        signal = self.traffic.signals.get(request.comment)
        if signal is None:
            self.breach("P7", f"an opening that no signal asked for: {request}")
        else:
            self._check_signal(signal)

    def _check_magic(self, request: OrderRequest) -> None:
        what = (request.comment, request.deed, request.symbol, request.position or request.order)
        if self._of_magic.setdefault(request.magic, what) != what:
            self.breach("magics", f"{request.magic} is used twice: {self._of_magic[request.magic]} and {what}")
        if request.magic in self._outcome and self._outcome[request.magic] is None:
            self.breach("P2", f"{request.magic} is sent again although its outcome is unknown: {request.comment}")

    def _check_halt(self, request: OrderRequest) -> None:
        assert self.bridge is not None
        state = self.bridge.latch.halt.state
        if self.stopped or state is not HaltState.ACTIVE:
            self.breach("P3", f"{request.comment} opens while {state.value}, stopped: {self.stopped}")

    def _check_signal(self, signal: Signal) -> None:
        now = self.world.now_ms()
        if not signal.tradable or signal.sort != "inbox":
            self.breach("P7", f"{signal.key} must never trade: {signal.sort} {signal.data!r}")
        if now > signal.made_msc + signal.ttl_ms:
            self.breach("P7", f"{signal.key} is sent {now - signal.made_msc} ms after it was made")
        if signal.made_msc > now + SKEW_MS:
            self.breach("P7", f"{signal.key} is sent {signal.made_msc - now} ms before it was made")

    def order_answered(self, request: OrderRequest, retcode: int | None, error: int | None) -> None:
        unknown = retcode is None and error not in (-2, -8, -10003, -10004)
        self._outcome[request.magic] = None if unknown else retcode or 0
        if _raises_risk(request) and retcode not in MAY_BE_SENT_AGAIN:
            self._spent[request.comment] = None if unknown else retcode

    # --- the books

    def books_changed(self, change: Change) -> None:
        """The paper server has written: what it holds now is the truth."""
        for deal in change.deals:
            if deal.magic and deal.reason not in _BY_THE_SERVER:
                self._check_deal(deal)
        for order in (*change.orders.values(), *change.history):
            if order is not None and order.magic in self._of_magic and order.reason not in _BY_THE_SERVER:
                self._check_order(order.magic, order.ticket)
        self._check_limits()

    def _check_deal(self, deal: Deal) -> None:
        self.world.note("deal", deal.ticket, deal.order, deal.magic, deal.entry, deal.symbol, deal.volume, deal.price)
        self.fills += 1
        comment, deed, *_ = self._of_magic.get(deal.magic, ("", None))
        if deed is None:
            self.breach("P1", f"a deal of a magic that was never sent: {deal}")
            return
        if deal.entry == 0:
            self._trades.add(deal.order)
            self._check_order(deal.magic, deal.order)
        elif deal.entry != _OUT_BY:
            self._closed_by[comment] += deal.volume
            self._check_closed(comment)

    def _check_order(self, magic: int, ticket: int) -> None:
        comment, deed, *_ = self._of_magic[magic]
        if deed not in (Deed.DEAL, Deed.PENDING):
            return
        self._orders[magic].add(ticket)
        if len(self._orders[magic]) > 1:
            self.breach("P1", f"{comment}: two orders with magic {magic}: {sorted(self._orders[magic])}")
        signal = self.traffic.signals.get(comment)
        if signal is not None and signal.opens and self._of_magic[magic][3] == 0:
            self._opened_by[comment].add(ticket)
            if len(self._opened_by[comment]) > 1:
                self.breach("P1", f"signal {comment} was executed twice: {sorted(self._opened_by[comment])}")

    def _check_closed(self, comment: str) -> None:
        signal, command = self.traffic.signals.get(comment), self.traffic.commands.get(comment)
        asked = signal.volume if signal is not None and not signal.opens else None
        promise = "P1"
        if command is not None:
            asked, promise = command.data.get("volume"), "P11"
        if asked is not None and self._closed_by[comment] > asked + _ROUNDING:
            self.breach(promise, f"{comment} asked to close {asked} lots and closed {self._closed_by[comment]}")

    def _check_limits(self) -> None:
        ledger = own_ledger()
        if ledger is None:
            return
        held, waiting = list(ledger.positions.values()), list(ledger.orders.values())
        self._at_most("max_simultaneous_trades", len(held) + len(waiting))
        for symbol in SYMBOLS:
            count = sum(each.symbol == symbol for each in (*held, *waiting))
            self._at_most("max_positions_per_symbol", count)
        self._at_most("max_daily_trades", len(self._trades))

    def _at_most(self, limit: str, count: int) -> None:
        most = self.limits.get(limit)
        if most is not None and count > most:
            self.breach("P9", f"{limit} is {most}, and there are {count}")

    # --- the halt

    def handed(self, frame: bytes) -> None:
        """The bridge has a frame of the backend."""
        message = _json(frame)
        kind = message.get("type")
        if kind == "emergency_stop":
            data = message["data"]
            self.stop_given(flatten=data.get("close_positions") is not False and data.get("scope") != "mine")
        elif kind == "resume_trading":
            self.resume_given()

    def stop_given(self, *, flatten: bool) -> None:
        """From now on nothing that raises risk may leave."""
        self.flatten = flatten or (self.flatten and self.stopped)
        self.stopped = True

    def resume_given(self) -> None:
        """Whether it is lifted only the bridge knows now."""
        self.stopped = self.durable_stop = False

    def heard(self, message: dict[str, Any]) -> None:
        """The backend has a frame of the bridge."""
        kind, data = message["type"], message["data"]
        if kind == "command_result" and data["command"] == "emergency_stop" and self.stopped:
            answer = data.get("data") or {}
            if answer.get("state") != "halted":
                self.breach("P3", f"a stop is answered with {answer}")
            self.durable_stop |= bool(answer.get("durable"))
        if kind == "halt_changed" and data["phase"] == "done" and not data["survivors"]:
            self._check_flat(parse_time(message["timestamp"]))

    def _check_flat(self, told_msc: int) -> None:
        ledger = own_ledger()
        if not (self.flatten and self.stopped) or ledger is None:
            return
        market = api._state.functions.terminal.market
        there = [p.ticket for p in ledger.positions.values() if market.utc(p.time_msc) < told_msc - _LAG_MS]
        if there:
            self.breach("P8", f"the stop says that the account is flat, and it holds {there}")

    def life_begins(self, bridge: Bridge) -> None:
        """Its rooms are open."""
        self.bridge = bridge
        state = bridge.latch.halt.state
        self.world.note("opened", state.value)
        if self.durable_stop and state is not HaltState.HALTED:
            self.breach("P3", f"a restart has lifted a stop: the bridge is {state.value}")
        self.stopped = self.stopped and state is HaltState.HALTED  # not durable yet when the process died

    # --- the journal

    def journal_written(self, db: sqlite3.Connection) -> None:
        """A group is durable: no offset stands beyond a record that nobody accounted for."""
        for partition, upto in db.execute("SELECT partition, next_offset FROM offsets WHERE topic = ?", (SIGNALS,)):
            done = self._accounted.get(partition, 0)
            if upto > done:
                self._check_records(db, partition, done, upto)
                self._accounted[partition] = upto

    def _check_records(self, db: sqlite3.Connection, partition: int, since: int, upto: int) -> None:
        by_place = {(r.partition, r.offset): s for s in self.traffic.signals.values() for r in s.records}
        for offset in range(max(since, self.broker.signals[partition].excused), upto):
            signal = by_place.get((partition, offset))
            if signal is None or signal.sort != "inbox":
                continue
            if db.execute("SELECT 1 FROM signals WHERE key = ?", (signal.key,)).fetchone() is None:
                self.breach(
                    "offsets", f"{partition}/{offset} is behind the offset, and {signal.key} is not in the inbox"
                )

    def restarted(self) -> None:
        """What was written last may be gone: everything is looked at again."""
        self._accounted.clear()
        self.bridge = None

    # --- ticks

    def ticks_published(self) -> None:
        """Each symbol's ticks come in order: what comes again has come before."""
        log = self.broker.published.get(TICKS, [])
        for key, value, _ in log[self._ticks_seen :]:
            assert key is not None
            data = _json(value or b"")["data"]
            self._published[key.decode()].append((data["time_msc"], data["seq"]))
        self._ticks_seen = len(log)

    def ticks_are_fresh(self) -> bool:
        """Whether the last ticks that the terminal has are published."""
        self.ticks_published()
        until = self.world.now_ms() - _TAIL_MS
        market = api._state.functions.terminal.market
        newest = {symbol: market.quote(symbol, until) for symbol in SYMBOLS}
        return all(
            quote is None or any(time == quote.time_msc for time, _ in self._published[symbol][-100:])
            for symbol, quote in newest.items()
        )

    def _check_ticks(self) -> None:
        self.ticks_published()
        for symbol, ticks in self._published.items():
            came = list(dict.fromkeys(ticks))
            if came != sorted(came):
                late = next(b for a, b in pairwise(came) if b < a)
                self.breach("P5", f"ticks of {symbol} are out of order at {late}")
            if not came:
                self.breach("P5", f"no tick of {symbol} was published")
                continue
            times = self._held(symbol, came[0][0])
            missing = sorted(set(times) - {time for time, _ in came})
            if missing:
                self.breach(
                    "P5", f"{len(missing)} of {len(times)} ticks of {symbol} are missing, the first {missing[0]}"
                )

    def _held(self, symbol: str, since_msc: int) -> list[int]:
        """The times of all ticks that the terminal has, but for the last moments."""
        ahead, until = api._state.functions.terminal.market.server_time(0), self.world.now_ms() - _TAIL_MS
        ticks = paper.copy_ticks_range(
            symbol, (since_msc + ahead) // 1000, (until + ahead) // 1000 + 1, paper.COPY_TICKS_ALL
        )
        times = [time - ahead for time in ticks["time_msc"].tolist()]
        return [time for time in times if since_msc <= time <= until]

    # --- the end

    def verdict(self, db: sqlite3.Connection) -> None:
        """What must hold when everything has come to rest."""
        self._check_results(db)
        self._check_letters()
        self._check_ticks()
        self._check_rest(db)
        self._check_end_of_halt()

    def _check_results(self, db: sqlite3.Connection) -> None:
        finals: dict[str, set[str]] = defaultdict(set)
        for _, value, _ in self.broker.published.get(EVENTS, []):
            message = _json(value or b"")
            if message["type"] != "order_result":
                continue
            data = message["data"]
            if data["status"] in FINAL and data["supersedes"] is None and data["signal_id"]:
                finals[data["signal_id"]].add(message["event_id"])
        inbox = dict(db.execute("SELECT key, status FROM signals").fetchall())
        for key, status in inbox.items():
            if status is None:
                self.breach("results", f"{key} has no final result")
            elif not key.startswith("cmd-") and len(finals[key]) != 1:
                self.breach("results", f"{key} has {len(finals[key])} final results: {sorted(finals[key])}")
        for signal in self.traffic.signals.values():
            kept = [r for r in signal.records if r.offset >= self.broker.signals[r.partition].excused]
            if signal.sort == "inbox" and kept and signal.key not in inbox:
                self.breach("results", f"{signal.key} was on the topic and is not in the inbox")
            if signal.sort == "dead" and signal.signal_id and kept and not finals[signal.signal_id]:
                self.breach("results", f"{signal.signal_id} cannot be read and was not refused")

    def _check_letters(self) -> None:
        letters = {value for _, value, _ in self.broker.published.get(DLQ, [])}
        for signal in self.traffic.signals.values():
            kept = [r for r in signal.records if r.offset >= self.broker.signals[r.partition].excused]
            if signal.sort == "dead" and kept and signal.whole not in letters:
                self.breach("P7", f"a dead letter is missing: {signal.whole!r}")

    def _check_rest(self, db: sqlite3.Connection) -> None:
        open_intents = db.execute(
            "SELECT magic, key, state FROM intents WHERE state IN ('sending', 'unknown')"
        ).fetchall()
        if open_intents:
            self.breach("results", f"intents without an outcome: {open_intents}")
        offsets = dict(db.execute("SELECT partition, next_offset FROM offsets WHERE topic = ?", (SIGNALS,)).fetchall())
        for partition, log in self.broker.signals.items():
            if max(offsets.get(partition, 0), log.excused) != log.end:
                self.breach("offsets", f"partition {partition} is read up to {offsets.get(partition)} of {log.end}")

    def _check_end_of_halt(self) -> None:
        ledger = own_ledger()
        assert self.bridge is not None
        if ledger is None or not (self.stopped and self.flatten):
            return
        left = sorted((*ledger.positions, *ledger.orders))
        if left and self.bridge.latch.halt.state is HaltState.HALTED:
            self.breach("P4", f"halted, and still there: {left}")


def own_ledger() -> Any:
    """The books of the own account as they are now; None while another account answers, or none."""
    terminal = api._state.functions.terminal
    session = terminal._ousted or terminal._session
    return None if session is None else session.account.ledger


def _raises_risk(request: OrderRequest) -> bool:
    return request.deed is Deed.PENDING or (request.deed is Deed.DEAL and not request.position)


def _json(frame: bytes) -> dict[str, Any]:
    try:
        message = json.loads(frame)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
