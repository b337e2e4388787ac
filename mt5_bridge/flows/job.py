"""One signal (or trading command) on its way from arrival to its final result."""

import asyncio
from dataclasses import dataclass, field

import msgspec

from mt5_bridge.core import correlation
from mt5_bridge.core.messages import Leg, OrderResult, Reason, Status, TradingSignal
from mt5_bridge.core.model import OrderRequest, TradeResult
from mt5_bridge.core.times import iso

COMMAND = "command"
MANAGED = "managed"
"""Source of what the bridge does on the word of a signal that has its result already."""


@dataclass(slots=True, eq=False)
class Job:
    """A signal being worked on.

    Attributes:
        key: its place in the inbox, unique for ever.
        signal: what is asked.
        received_msc: when it reached the bridge, UTC ms.
        created_msc: when it was made: `created_at`, else the record's time, else `received_msc`.
        source: where it came from: redpanda, websocket, command.
        request_id: of the frame or request that brought it, echoed in its result.
        sender: who sent it, where that is known.
        correlation: id of the HTTP request that brought it, None where none did.
        person: a command of a person, who may still close, cancel and tighten stops while halted.
        admitted: done when the inbox row is durable; None when it is already, or is written with the intent.
        on_its_way: the journal will write that row before whatever it is asked for from now on.
        suspect: it may have been executed by a former journal: look its magic up before the first send.
        record_key: key of the record that brought it, None where there was none.
        free_magic: the magic of its first leg, which nobody had when it came in; 0: not known.
        follow_ups: orders the bridge added of its own accord to protect the fill; they are legs 1, 2, …
        event_id: of its final result, or of the one that corrected it last; None before.
        first: its first result, interim or final; None before.
    """

    key: str
    signal: TradingSignal
    received_msc: int
    created_msc: int
    source: str
    request_id: str | int | None = None
    sender: str | None = field(default_factory=correlation.sender.get)
    correlation: str | None = field(default_factory=correlation.request.get)
    person: bool = False
    admitted: "asyncio.Future[None] | None" = None
    on_its_way: bool = False
    suspect: bool = False
    record_key: str | None = None
    free_magic: int = 0
    follow_ups: int = 0
    event_id: str | None = None
    attempts: int = 0
    sent_msc: int | None = None
    symbol: str = ""
    first: OrderResult | None = None
    _awaited: "asyncio.Future[OrderResult] | None" = field(default=None, init=False)
    """Made by who waits: of a backlog nobody does."""

    async def outcome(self) -> OrderResult:
        """The first result, interim or final, as soon as there is one."""
        if self.first is not None:
            return self.first
        if self._awaited is None:
            self._awaited = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._awaited)

    def came_to(self, result: OrderResult) -> None:
        """It has a result; only the first one counts."""
        if self.first is not None:
            return
        self.first = result
        if self._awaited is not None:
            self._awaited.set_result(result)

    def deadline_msc(self, max_age_ms: int) -> int:
        """Until when it may be sent: the smaller of `ttl_ms` and the setting after it was made."""
        ttl = self.signal.ttl_ms
        return self.created_msc + (max_age_ms if ttl is None else min(ttl, max_age_ms))

    @property
    def entered(self) -> bool:
        """Whether its inbox row is durable."""
        entry = self.admitted
        return entry is None or (entry.done() and not entry.cancelled() and entry.exception() is None)

    @property
    def signal_id(self) -> str | None:
        """The id its result carries; None for commands, and for what follows from a signal after its result."""
        return None if self.source in (COMMAND, MANAGED) else self.key


_WAITING = frozenset({Status.PLACED, Status.MODIFIED})


def result(
    job: Job,
    status: Status,
    *,
    now_msc: int,
    reason: Reason | str | None = None,
    detail: str | None = None,
    answer: TradeResult | None = None,
    retcode_text: str | None = None,
    request: OrderRequest | None = None,
    position: int | None = None,
    volume_filled: float | None = None,
    price: float | None = None,
    order: int | None = None,
    deal: int | None = None,
    legs: list[Leg] | None = None,
    supersedes: str | None = None,
) -> OrderResult:
    """The `order_result` of a job: what was asked, what was sent, what came back."""
    signal = job.signal
    return OrderResult(
        signal_id=job.signal_id,
        request_id=job.request_id,
        status=status,
        reason=None if reason is None else str(reason),
        detail=detail,
        retcode=None if answer is None else answer.retcode,
        retcode_text=retcode_text,
        order=order or (answer.order if answer and answer.order else None),
        deal=deal or (answer.deal if answer and answer.deal else None),
        position=position or (request.position if request and request.position else None),
        symbol=job.symbol or signal.symbol,
        action=signal.action.value,
        volume_requested=request.volume if request and request.volume and legs is None else signal.volume,
        volume_filled=volume_filled,
        # Terminals answer what only waits without a price.
        price=price or (answer and answer.price) or (request and status in _WAITING and request.price) or None,
        stop_loss=(request.stop_loss or None) if request else signal.stop_loss,
        take_profit=(request.take_profit or None) if request else signal.take_profit,
        magic=request.magic if request else None,
        comment=(request.comment or None) if request else signal.comment,
        attempts=job.attempts,
        received_at=iso(job.received_msc),
        sent_at=None if job.sent_msc is None else iso(job.sent_msc),
        done_at=iso(now_msc),
        latency_ms=float(now_msc - job.received_msc),
        strategy=signal.strategy,
        legs=legs,
        supersedes=supersedes,
    )


def payload_of(signal: TradingSignal) -> bytes:
    """A signal as the inbox keeps it."""
    return msgspec.json.encode(signal)


def signal_from(payload: bytes) -> TradingSignal:
    """A signal as the inbox kept it."""
    return msgspec.json.decode(payload, type=TradingSignal)
