"""Collects the facts of a decision and asks the guards."""

from collections.abc import Callable

from loguru import logger

from mt5_bridge.core import halt as machine
from mt5_bridge.core import throttle
from mt5_bridge.core.decision import Approval, Context, Denial, Limits, Readiness, Requester
from mt5_bridge.core.errors import MT5AuthError, MT5DataError, MT5Error, MT5ValidationError
from mt5_bridge.core.guards import check_halt, early, evaluate, reduces_risk
from mt5_bridge.core.halt import Origin
from mt5_bridge.core.messages import Reason
from mt5_bridge.core.model import Order, Position, SymbolInfo
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import Job
from mt5_bridge.flows.latch import HaltLatch
from mt5_bridge.flows.rate import Rate
from mt5_bridge.terminal.port import OrderFacts, Terminal

_EARLY = frozenset({Reason.TRADING_DISABLED, Reason.STALE, Reason.FROM_FUTURE, Reason.HALTED, Reason.REDUCING})
_NOT_ASKED = Readiness()
_LOG = logger.bind(event="denied")


class Judge:
    """Facts in, decision out.

    Args:
        terminal: quotes, margin and loss come from here, in one round trip.
        book: positions, orders, the day, what is in flight.
        latch: the halt state; the throttle may latch it.
        limits: the settings, read again for each decision.
    """

    def __init__(self, terminal: Terminal, book: Book, latch: HaltLatch, clock: Clock, limits: Callable[[], Limits]):
        self._terminal = terminal
        self._book = book
        self._latch = latch
        self._clock = clock
        self._limits = limits
        self.denials: dict[str, int] = {}
        self.rate = Rate(clock, limits)
        self._throttled = throttle.ThrottleLatch()

    @property
    def limits(self) -> Limits:
        """The settings as they are now."""
        return self._limits()

    def early(self, job: Job) -> Denial | None:
        """A denial that no terminal is needed for: halted, too old, trading disabled. None: ask on."""
        denial = early(
            Context(
                signal=job.signal,
                now_msc=self._clock.now_ms(),
                created_msc=job.created_msc,
                limits=self._limits(),
                halt=self._latch.halt,
                readiness=_NOT_ASKED,
                account=self._book.account,
                record_key=job.record_key,
                requester=_requester(job),
            )
        )
        if denial is None or denial.code not in _EARLY:
            return None
        if denial.code is Reason.REDUCING and not job.signal.action.opens:
            return None  # a MODIFY is judged by its target, which is not known yet
        self._count(denial)
        return denial

    async def symbol(self, name: str) -> SymbolInfo | Denial:
        """The rules of a symbol as a backend writes it."""
        try:
            resolved = await self._book.resolve(name)
            info = await self._book.symbol(resolved)
        except MT5ValidationError as error:
            return Denial(code=Reason.AMBIGUOUS_SYMBOL, detail=str(error))
        except MT5DataError as error:
            if error.code == -4:
                return Denial(code=Reason.UNKNOWN_SYMBOL, detail=f"the terminal has no symbol {name}")
            return unavailable(error)
        except MT5Error as error:
            return unavailable(error)
        return info or Denial(code=Reason.UNKNOWN_SYMBOL, detail=f"the terminal has no symbol {name}")

    async def facts(self, job: Job, symbol: SymbolInfo) -> OrderFacts | Denial:
        """Quote, margin and loss of an opening, read now."""
        side = job.signal.action.side
        assert side is not None
        price = job.signal.price if job.signal.action.is_pending else None
        try:
            facts = await self._terminal.quote_for_order(symbol.name, side, price, job.signal.stop_loss or None)
        except MT5DataError as error:
            return Denial(code=Reason.NO_QUOTE, detail=str(error))
        except MT5Error as error:
            return unavailable(error)
        self._book.note(facts.account, facts.terminal)
        return facts

    async def opening(self, job: Job, symbol: SymbolInfo, facts: OrderFacts, *, but: int = 0) -> Approval | Denial:
        """Whether an opening may be sent. `but`: its own magic, on a retry."""
        limits = self._limits()
        try:
            risks = await self._book.risks() if limits.max_open_risk_pct is not None else {}
        except MT5Error as error:
            return unavailable(error)
        context = self._context(
            job,
            limits,
            account=facts.account,
            symbol=facts.symbol_info,
            quote=facts.quote,
            in_flight=self._book.in_flight(but=but),
            loss_per_lot=facts.loss_per_lot,
            margin_per_lot=facts.margin_per_lot,
            risk_by_position=risks,
        )
        return self._count(evaluate(context))

    async def change(self, job: Job, symbol: SymbolInfo, target: Position | Order) -> Approval | Denial:
        """Whether a MODIFY may be sent; one that raises risk is judged like an opening of its target.

        Raises:
            MT5Error: the terminal cannot be asked.
        """
        stop = target.stop_loss if job.signal.stop_loss is None else job.signal.stop_loss
        side = target.side if isinstance(target, Position) else target.type.side
        entry = target.price_open if isinstance(target, Position) else job.signal.price or target.price
        facts = await self._terminal.quote_for_order(symbol.name, side, entry, stop or None)
        self._book.quotes[symbol.name] = facts.quote
        limits = self._limits()
        risks = await self._book.risks() if limits.max_open_risk_pct is not None else {}
        context = self._context(
            job,
            limits,
            account=facts.account,
            symbol=symbol,
            quote=facts.quote,
            in_flight=self._book.in_flight(),
            target=target,
            loss_per_lot=facts.loss_per_lot,
            margin_per_lot=facts.margin_per_lot,
            risk_by_position=risks,
            throttle_wait_ms=self.rate.wait_ms(job),
        )
        return self._count(evaluate(context))

    def exit(
        self,
        job: Job,
        symbol: SymbolInfo | None,
        target: Position | Order | None,
        *,
        target_by: Position | None = None,
        volume: float | None = None,
        requester: Requester | None = None,
    ) -> Approval | Denial:
        """Whether one leg of a CLOSE, a MODIFY, a CANCEL or a CLOSE_BY may be sent."""
        context = self._context(
            job,
            self._limits(),
            account=self._book.account,
            symbol=symbol,
            quote=self._book.quotes.get(symbol.name) if symbol else None,
            in_flight=self._book.in_flight(),
            target=target,
            target_by=target_by,
            volume=volume,
            requester=requester,
        )
        return self._count(evaluate(context))

    def last_word(self, job: Job, target: Position | Order | None = None) -> Denial | None:
        """The check next to the send: age, reconciliation, halt, on what is true right now. No setting skips it."""
        limits, now = self._limits(), self._clock.now_ms()
        deadline = job.deadline_msc(limits.signal_max_age_ms)
        if now > deadline:
            age, limit = now - job.created_msc, deadline - job.created_msc
            return Denial(
                code=Reason.STALE,
                detail=f"{age} ms old when it was about to be sent, the limit is {limit} ms",
                limit=float(limit),
                value=float(age),
            )
        halted = check_halt(job.signal, self._latch.halt, requester=_requester(job), target=target)
        if halted is None and not self._book.reconciled.is_set() and not reduces_risk(job.signal, target):
            # The terminal went, and may be back already: what the decision stood on need not be so any more.
            return Denial(code=Reason.NOT_READY, detail=self._book.readiness.why_not or "not ready")
        return halted

    def taken_back(self, job: Job, target: Position | Order | None = None) -> Denial | None:
        """Why an order on its way to the terminal is not to be sent after all: the latch, where it raises risk.

        What reduces risk goes on: it was let through, and nothing may come in its place.
        """
        if reduces_risk(job.signal, target):
            return None
        return check_halt(job.signal, self._latch.halt, requester=_requester(job), target=target)

    def foremost(self, job: Job, denial: Denial) -> Denial:
        """A stop's own doing, such as a killed host, is not why a signal is denied: the stop is."""
        if denial.code is not Reason.NOT_READY or self._latch.halt.state is not machine.HaltState.HALTED:
            return denial
        return check_halt(job.signal, self._latch.halt, requester=_requester(job)) or denial

    def throttled(self, job: Job) -> Denial:
        """A risk-raising signal is denied for the rate: too many of them within a minute latch REDUCING."""
        limits, now = self._limits(), self._clock.now_ms()
        self._throttled, latch = throttle.count_denial(self._throttled, job.key, now, limits.throttle_latch)
        if latch:
            reduced = machine.reduce(
                self._latch.halt,
                reason=f"{limits.throttle_latch} signals above MAX_ORDERS_PER_SECOND within a minute",
                by="throttle",
                at_msc=now,
                origin=Origin.RULE,
            )
            self._latch.tighten(reduced)
        per_second = limits.max_orders_per_second
        return Denial(
            code=Reason.THROTTLED,
            detail=f"more than {per_second} orders a second; the signal's time ends before its turn",
            limit=per_second,
        )

    def _context(self, job: Job, limits: Limits, *, requester: Requester | None = None, **facts: object) -> Context:
        base: dict[str, object] = {
            "signal": job.signal,
            "now_msc": self._clock.now_ms(),
            "created_msc": job.created_msc,
            "limits": limits,
            "halt": self._latch.halt,
            "readiness": self._book.readiness,
            "positions": self._book.listed_positions,
            "orders": self._book.listed_orders,
            "day": self._book.day_so_far,
            "blocked": self._book.blocked,
            "classes": self._book.classes,
            "record_key": job.record_key,
            "requester": requester or _requester(job),
        }
        return Context(**(base | facts))  # type: ignore[arg-type]  # the callers above name the fields they have

    def _count(self, decision: Approval | Denial) -> Approval | Denial:
        if isinstance(decision, Denial):
            code = decision.code.value
            self.denials[code] = self.denials.get(code, 0) + 1
            _LOG.debug("Denied, {code}: {d}", code=code, d=decision.detail)
        return decision


def _requester(job: Job) -> Requester:
    return Requester.PERSON if job.person else Requester.SIGNAL


def unavailable(error: MT5Error) -> Denial:
    """The terminal could not be asked."""
    code = Reason.ACCOUNT_MISMATCH if isinstance(error, MT5AuthError) else Reason.NOT_READY
    return Denial(code=code, detail=f"the terminal cannot be asked: {error}")
