"""Judges a run by what the terminal's own books, the topics and the backend show: the promises P1 to P12.

What must hold at every moment is looked at whenever something happens that could break it: an order leaves, the books
change, the journal has written, the backend or a topic hears something. What must hold in the end is in `verdict`.
"""

import json
import sqlite3
from collections import defaultdict
from typing import Any

from support.simulation.books import own_ledger
from support.simulation.broker import EVENTS, SIGNALS, TICKS, Broker
from support.simulation.halts import HaltJudge
from support.simulation.signals import SKEW_MS, SYMBOLS, Signal
from support.simulation.tape import Tape
from support.simulation.terminal import SimHost, Witness
from support.simulation.traffic import Traffic
from support.simulation.verdict import Accounts
from support.simulation.world import World

from mt5_bridge.app.bridge import Bridge
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.model import Deed, OrderRequest
from mt5_bridge.simulator.core.records import Change, Deal

MAY_BE_SENT_AGAIN = {10004, 10020, 10021, 10024, 10028}
"""Answers that say for certain that nothing was done, and that the same may be asked again."""
_SAY_NOTHING = {10008, 10011, 10012, 10031}
"""Answers after which the order may be there or not."""
_BY_THE_SERVER = {4, 5, 6}
"""ORDER_REASON_ and DEAL_REASON_SL, TP, SO: nobody sent these; they carry their position's magic."""
_OUT_BY = 3
_ROUNDING = 1e-6


class Oracle(Witness):
    """Watches one run. The orders and the books are judged here; the halt and the ticks have judges of their own.

    Args:
        limits: the settings that limit, by name; None: off.
        throttle_latch: THROTTLE_LATCH.
    """

    def __init__(self, world: World, broker: Broker, limits: dict[str, int | None], throttle_latch: int) -> None:
        self.world, self.broker, self.limits = world, broker, limits
        self.halts = HaltJudge(world, throttle_latch)
        self.tape = Tape(world)
        self.traffic: Traffic
        self.sends = self.fills = 0
        self._of_magic: dict[int, tuple[str, Deed, str, int]] = {}
        self._outcome: dict[int, int | None] = {}
        self._spent: dict[str, int | None] = {}
        """Comment of an opening → why it must not be sent again: the last answer, None for none."""
        self._orders: dict[int, set[int]] = defaultdict(set)
        self._opened_by: dict[str, set[int]] = defaultdict(set)
        self._closed_by: dict[str, float] = defaultdict(float)
        self._trades: set[int] = set()
        self._left_halted: set[int] = set()
        self._accounted: dict[int, int] = {}

    def breach(self, promise: str, what: str) -> None:
        """See `World.breach`."""
        self.world.breach(promise, what)

    # --- orders on their way

    def order_leaves(self, host: SimHost, request: OrderRequest) -> None:
        self.sends += 1
        self._check_magic(request)
        if self.halts.state is not HaltState.ACTIVE:
            self._left_halted.add(request.magic)
        if not _raises_risk(request):
            return
        self.halts.opening_leaves(request.comment)
        if not (host.connected and host.read_whole):
            self.breach("P8", f"order {request.magic} leaves before the account has been read: {request.comment}")
        if request.comment in self._spent:
            answer = self._spent[request.comment]
            promise = "P2" if answer is None or answer in _SAY_NOTHING else "P1"
            self.breach(promise, f"{request.comment} is sent again after the answer {answer} (None: none)")
        signal = self.traffic.signals.get(request.comment)
        if signal is None:
            self.breach("P7", f"an opening that no signal asked for: {request}")
        else:
            self._check_signal(signal)

    def order_begins(self, request: OrderRequest) -> None:
        if _raises_risk(request):
            self.halts.opening_begins(request.comment)

    def _check_magic(self, request: OrderRequest) -> None:
        what = (request.comment, request.deed, request.symbol, request.position or request.order)
        if self._of_magic.setdefault(request.magic, what) != what:
            self.breach("magics", f"{request.magic} is used twice: {self._of_magic[request.magic]} and {what}")
        if request.magic in self._outcome and self._outcome[request.magic] is None:
            self.breach("P2", f"{request.magic} is sent again although its outcome is unknown: {request.comment}")

    def _check_signal(self, signal: Signal) -> None:
        now = self.world.now_ms()
        if signal.sort != "inbox":
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

    def stop_touched(self, request: OrderRequest, before: float, after: float) -> None:
        """A managed stop only ever comes nearer, and so does every stop that is moved while trading is halted."""
        if request.deed is not Deed.SLTP or after >= before - _ROUNDING:
            return
        if request.nearer_only:
            self.breach("stops", f"the managed stop of {request.position} goes from {before} back to {after}")
        if request.magic in self._left_halted:
            self.breach("P3", f"the stop of {request.position} goes from {before} back to {after} while halted")

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

    # --- frames and topics

    def handed(self, frame: bytes) -> None:
        """The bridge has a frame of the backend."""
        self.halts.handed(_json(frame))

    def heard(self, message: dict[str, Any]) -> None:
        """The backend has a frame of the bridge."""
        self.halts.heard(message)

    def taken(self, topic: str, key: bytes | None, value: bytes | None) -> None:
        """A topic has a record of the bridge."""
        if topic == TICKS:
            assert key is not None
            self.tape.published(key.decode(), value or b"")
        elif topic == EVENTS:
            self.halts.published(value or b"")
            if b'"position_closed"' in (value or b""):
                self._check_gone(_json(value or b"")["data"]["ticket"])

    def _check_gone(self, ticket: int) -> None:
        ledger = own_ledger()
        if ledger is not None and ticket in ledger.positions:
            self.breach("P8", f"position {ticket} is told to be closed, and it is open")

    # --- the journal

    def journal_written(self, db: sqlite3.Connection) -> None:
        """A group is durable: no offset stands beyond a record that nobody accounted for."""
        self.halts.journal_written(db)
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

    def life_begins(self, bridge: Bridge) -> None:
        """Its rooms are open."""
        self.halts.life_begins(bridge)
        self.tape.life_begins()

    def restarted(self) -> None:
        """What was written last may be gone: everything is looked at again."""
        self._accounted.clear()
        self.halts.life_ends()

    def verdict(self, db: sqlite3.Connection) -> None:
        """What must hold when everything has come to rest."""
        Accounts(self.world, self.broker, self.traffic, db).check()
        self.tape.verdict()
        self.halts.verdict()


def _raises_risk(request: OrderRequest) -> bool:
    return request.deed is Deed.PENDING or (request.deed is Deed.DEAL and not request.position)


def _json(frame: bytes) -> dict[str, Any]:
    try:
        message = json.loads(frame)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}
