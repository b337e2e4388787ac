"""What the terminal's host does by itself when its daemon is dead: cancel, close, look again, and leave a report.

The rules are those of the emergency stop. A ticket is gone when a complete read does not show it any more; what may
have had an effect is sent again only after a read, at least 500 ms later, that shows the same ticket and volume and no
live order with its magic. All runs in the host's main thread, the only one that may call the terminal.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mt5_bridge.core.deadman import Act, Report, report_name
from mt5_bridge.core.intent import Verdict, comment_for, magic_base
from mt5_bridge.core.model import DealEntry, Deed, OrderRequest, OrderType, TradeResult
from mt5_bridge.terminal import retcodes
from mt5_bridge.terminal.failures import AUTH_FAILED, NOT_SENT, UNSUPPORTED
from mt5_bridge.terminal.frames import IPC_FAIL, HostError
from mt5_bridge.terminal.host_lock import ACTING_PATIENCE_S, HostLock
from mt5_bridge.terminal.host_ops import Host
from mt5_bridge.terminal.raw import (
    DeadManArgs,
    RawAccount,
    RawDeal,
    RawOrder,
    RawPosition,
    RawResult,
    RawSymbol,
    RawTerminal,
)

ACT_S = 60.0
CLEAN_READS = 3
SETTLE_S = 0.5
_CLEAN_PAUSE_S = 0.05
_PAUSE_FIRST_S, _PAUSE_MOST_S = 0.1, 2.0
_BACK_OFF_FIRST_S, _BACK_OFF_MOST_S = 0.2, 5.0
_DEVIATION_POINTS = 1000
"""As an emergency does, it takes the price there is."""
_COMMENT = "dead man's switch"
_NETTING = (0, 1)
"""ACCOUNT_MARGIN_MODE_RETAIL_NETTING, _EXCHANGE."""
_REFUSED = frozenset(
    {
        Verdict.RETRY,
        Verdict.BACK_OFF,
        Verdict.FINAL,
        Verdict.NOT_SENT,
        Verdict.SYMBOL_BLOCKED,
        Verdict.NOT_READY,
        Verdict.HALT,
    }
)
"""Certainly not executed: tried again after a pause."""


@dataclass
class _Ticket:
    """What happened to one ticket."""

    tries: int = 0
    wait_until: float = 0.0
    touched: bool = False
    """Something was sent that may have had an effect."""
    settled_from: float = 0.0
    volume: float = 0.0
    magic: int = 0
    why: str = ""


@dataclass(frozen=True)
class _Target:
    """A ticket that a read shows and that is to go; `volume` lots of it, of `present` ones."""

    ticket: int
    is_order: bool
    request: OrderRequest
    present: float
    rank: float = 0.0

    @property
    def place(self) -> tuple[bool, int]:
        """The position that an order becomes has the order's ticket."""
        return self.is_order, self.ticket


class DeadMan:
    """The switch of one host.

    Args:
        host: the terminal.
        args: what it is to do.
        lock: held by this host; told of every step.
        monotonic, sleep: seconds.
        now_ms: UTC wall clock in ms.
    """

    def __init__(
        self,
        host: Host,
        args: DeadManArgs,
        lock: HostLock | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._host = host
        self._args = args
        self._lock = lock
        self._monotonic = monotonic
        self._sleep = sleep
        self._now_ms = now_ms
        self._tickets: dict[tuple[bool, int], _Ticket] = {}
        self._symbols: dict[str, RawSymbol] = {}
        self._positions: set[int] = set()
        self._refused = False
        if lock is not None:
            lock.patience_s = ACTING_PATIENCE_S
            lock.step()

    def act(self, why: str) -> Report:
        """Cancel and close until three complete reads show nothing left, for at most a minute.

        Args:
            why: what it took for the daemon's death, in words.

        Returns:
            The report as it was left in the folder.
        """
        login, server = self._host.whose or (0, "")
        report = self._report = Report(
            id=uuid.uuid4().hex,
            action=self._args.action,
            why=why,
            login=login,
            server=server,
            began_msc=self._now_ms(),
        )
        until, clean, pause = self._monotonic() + ACT_S, 0, _PAUSE_FIRST_S
        self._save()
        while clean < CLEAN_READS and self._monotonic() < until:
            clean = clean + 1 if self._round() else 0
            self._save()
            self._sleep(_CLEAN_PAUSE_S if clean else pause)
            pause = _PAUSE_FIRST_S if clean else min(pause * 1.5, _PAUSE_MOST_S)
        report.ended_msc = self._now_ms()
        self._save(last=True)
        return report

    def _round(self) -> bool:
        """One complete read and a try at everything it shows; whether it showed that nothing is left."""
        asked = self._monotonic()
        try:
            connected = RawTerminal(*self._host.terminal()).connected
            orders, wanted = self._look()
            # Without its server a terminal that has just started shows an account with nothing in it.
            self._report.fault = "" if connected else "the terminal has no connection to its trade server"
            if connected:
                self._note_gone(wanted)
            for target in wanted:
                if self._may_try(target, asked, {order.magic for order in orders}):
                    self._try(target)
        except HostError as error:
            self._report.fault = error.failure.text
            self._mend(error)
            return False
        except Exception as error:  # noqa: BLE001  whatever is wrong here, closing goes on: nobody else does it
            self._report.fault = repr(error)
            return False
        return connected and not wanted

    def _step(self) -> None:
        if self._lock is not None:
            self._lock.step()

    def _mend(self, error: HostError) -> None:
        """A broken pipe is opened anew; a refused login is not tried again, brokers lock accounts."""
        code = error.failure.code
        if code is None or code > IPC_FAIL or self._refused:
            return
        self._step()
        try:
            self._host.reconnect()
        except HostError as failed:
            self._report.fault = failed.failure.text
            self._refused = failed.failure.code in (AUTH_FAILED, UNSUPPORTED)

    # --- what is to go

    def _look(self) -> tuple[list[RawOrder], list[_Target]]:
        """Live orders, and what is to go: cancels first, then closes, the largest risk first."""
        self._step()
        netting = RawAccount(*self._host.account()).margin_mode in _NETTING
        positions = [RawPosition(*raw) for raw in self._host.positions(None, None)]
        orders = [RawOrder(*raw) for raw in self._host.orders(None, None)]
        cancels = [self._cancel(order) for order in orders if self._ours(order.magic)]
        closes = []
        if self._args.action == "flatten":
            shares = [(position, self._share(position, netting=netting)) for position in positions]
            closes = [self._close(position, volume) for position, volume in shares if volume > 0]
        closes.sort(key=lambda target: target.rank, reverse=True)
        self._positions = {position.ticket for position in positions}
        wanted = [*cancels, *closes]
        self._report.left = {t.ticket: self._tickets[t.place].why if t.place in self._tickets else "" for t in wanted}
        return orders, wanted

    def _ours(self, magic: int) -> bool:
        return self._args.scope == "all" or magic_base(magic) == self._args.magic_base

    def _share(self, position: RawPosition, *, netting: bool) -> float:
        """How many lots of it are to go. On netting what is ours is the sum of the deals with our magics."""
        if self._args.scope == "all" or not netting:
            return position.volume if self._ours(position.magic) else 0.0
        found = self._host.history_deals(0, 0, None, position.identifier or position.ticket)
        deals = [deal for deal in (RawDeal(*raw) for raw in found) if deal.type in (0, 1) and self._ours(deal.magic)]
        signed = sum(
            deal.volume if deal.type == position.type else -deal.volume
            for deal in deals
            if deal.entry != DealEntry.OUT_BY
        )
        return max(0.0, min(round(signed, 8), position.volume))

    def _cancel(self, order: RawOrder) -> _Target:
        request = OrderRequest(deed=Deed.REMOVE, symbol=order.symbol, order=order.ticket)
        return _Target(order.ticket, True, request, order.volume_current)

    def _close(self, position: RawPosition, volume: float) -> _Target:
        info = self._symbol(position.symbol)
        rank = volume * position.price_current
        if info is not None:
            if info.volume_max > 0:
                volume = min(volume, info.volume_max)
            if info.trade_tick_size > 0:
                rank *= info.trade_tick_value / info.trade_tick_size
        request = OrderRequest(
            deed=Deed.DEAL,
            symbol=position.symbol,
            type=OrderType.SELL if position.type == OrderType.BUY else OrderType.BUY,
            volume=volume,
            deviation_points=_DEVIATION_POINTS,
            comment=comment_for(_COMMENT),
            position=position.ticket,
        )
        return _Target(position.ticket, False, request, position.volume, rank)

    def _symbol(self, name: str) -> RawSymbol | None:
        if name not in self._symbols:
            with contextlib.suppress(HostError):  # without its rules it is closed all the same, only not ranked
                self._symbols[name] = RawSymbol(*self._host.symbol(name))
        return self._symbols.get(name)

    def _note_gone(self, wanted: list[_Target]) -> None:
        here = {target.place for target in wanted}
        report = self._report
        for (is_order, number), ticket in self._tickets.items():
            if is_order and number in self._positions:
                ticket.touched = False  # it became a position: not cancelled
            elif ticket.touched and (is_order, number) not in here:
                gone = report.cancelled if is_order else report.closed
                if number not in gone:
                    gone.append(number)

    # --- sending

    def _may_try(self, target: _Target, asked: float, alive: set[int]) -> bool:
        """Whether this read allows a send: see the module's words."""
        ticket = self._tickets.setdefault(target.place, _Ticket())
        if self._monotonic() < ticket.wait_until:
            return False
        if not ticket.touched:
            return True
        if target.present != ticket.volume:
            # It did part of its work and may go on: what is seen now must stand for the settling time.
            ticket.volume, ticket.settled_from = target.present, asked
            return False
        return asked - ticket.settled_from >= SETTLE_S and ticket.magic not in alive

    def _try(self, target: _Target) -> None:
        ticket, report = self._tickets[target.place], self._report
        ticket.tries += 1
        leg = len(report.acts) + 1
        magic = ticket.magic = report.magic(self._args.magic_base, leg)
        request = msgspec.structs.replace(target.request, magic=magic)
        act = Act(magic=magic, leg=leg, request=request, at_msc=self._now_ms(), volume_before=target.present)
        report.acts.append(act)
        self._save()
        self._step()
        try:
            raw = self._host.send(self._report.login, self._report.server, msgspec.to_builtins(request), 0)
            act.answer = TradeResult(**dict(zip(RawResult.__struct_fields__, raw, strict=True)))
        except HostError as error:
            failure = error.failure
            act.sent, act.detail = failure.sent and failure.code not in NOT_SENT, failure.text
            if _hits_all(error):
                raise
        finally:
            self._took(target, act)

    def _took(self, target: _Target, act: Act) -> None:
        ticket, now = self._tickets[target.place], self._monotonic()
        answer = act.answer
        refused = not act.sent if answer is None else retcodes.classify(answer) in _REFUSED
        ticket.why = act.detail if answer is None else f"{retcodes.text(answer.retcode)} ({answer.retcode})"
        self._report.left[target.ticket] = ticket.why
        if refused:
            ticket.wait_until = now + min(_BACK_OFF_FIRST_S * 2 ** (ticket.tries - 1), _BACK_OFF_MOST_S)
        else:
            ticket.touched, ticket.settled_from, ticket.volume = True, now, target.present

    def _save(self, *, last: bool = False) -> None:
        """Put the report where the next bridge finds it; a disk that does not take it keeps nothing from being done."""
        path = Path(self._args.folder) / report_name(self._report.id)
        fresh = path.with_suffix(".new")
        with contextlib.suppress(OSError):
            with fresh.open("wb") as out:
                out.write(msgspec.json.encode(self._report))
                if last:
                    out.flush()
                    os.fsync(out.fileno())
            fresh.replace(path)


def _hits_all(error: HostError) -> bool:
    """Whether no other ticket can be had either: the pipe is broken, or another account answers it."""
    code = error.failure.code
    return error.failure.kind == "mismatch" or (code is not None and code <= IPC_FAIL)
