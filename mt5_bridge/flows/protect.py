"""After a fill the position carries the stop and target that were asked for: set them at once, or close it.

What is still to be looked at stands in the journal, written with the fill's result, so that a crash in between leaves
no position without its stop. Acting does not wait for the journal: it lowers risk.
"""

import asyncio

import msgspec
from loguru import logger

from mt5_bridge.core import exits as plan
from mt5_bridge.core.errors import JournalError, MT5Error
from mt5_bridge.core.intent import IntentState, comment_for
from mt5_bridge.core.messages import Reason, Status
from mt5_bridge.core.model import Action, Deed, OrderRequest, OrderType, Position, Quote, Side
from mt5_bridge.flows.book import Book
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.job import Job, result
from mt5_bridge.flows.orders import Intent, OrderDesk, Sent
from mt5_bridge.journal import changes
from mt5_bridge.terminal.port import Priority, Terminal

GUARDED_MEMO = "guarded"
"""Magics of fills whose stop has not been looked at yet."""
STOP_TRIES = 3
STOP_WITHIN_S = 5.0
_PAUSE_S = 0.2
_TIDY_S = 0.25
_SETTLE_S = 0.5
_PAUSE_MOST_S = 10.0
_CLOSE_TIMEOUT_S = 10.0
_ROUNDING = 1e-9


class StopGuard:
    """Looks after the stops of fills.

    Args:
        deviation_points: allowed slippage of the closing order.
    """

    def __init__(self, desk: OrderDesk, book: Book, terminal: Terminal, clock: Clock, *, deviation_points: int) -> None:
        self._desk = desk
        self._book = book
        self._terminal = terminal
        self._clock = clock
        self._deviation = deviation_points
        self._open: set[int] = set()
        self._tidying = False

    def begin(self, intent: Intent) -> tuple[changes.Change, ...]:
        """What to journal with the result of a fill; nothing where no stop and no target was asked for."""
        if not (intent.request.stop_loss or intent.request.take_profit):
            return ()
        self._open.add(intent.magic)
        return (self._memo(),)

    @property
    def busy(self) -> bool:
        """Whether the stop of any fill is still to be looked at."""
        return bool(self._open)

    def watching(self, magic: int) -> bool:
        """Whether the stop of the fill with that magic is still being brought to what was asked for."""
        return magic in self._open

    async def watch(self, job: Job, intent: Intent, filled: float | None, *, anew: bool = False) -> None:
        """Bring the position of a fill to what was asked for.

        Args:
            job: the signal.
            intent: its opening.
            filled: how many lots of it; None: all that was asked for.
            anew: taken up from an earlier life: a stop that somebody moved meanwhile is left alone.
        """
        if not (intent.request.stop_loss or intent.request.take_profit):
            await self._read()
            return
        self._open.add(intent.magic)
        await self._watch(job, intent, filled or intent.request.volume, anew=anew)
        await self.end(intent.magic)

    def take_up(self, magic: int) -> None:
        """A fill of an earlier life whose stop is still to be looked at; to be watched, or ended."""
        self._open.add(magic)

    async def end(self, magic: int) -> None:
        """The fill with this magic needs no look any more."""
        self._open.discard(magic)
        await self._tidy()

    async def _tidy(self) -> None:
        """Forget in the journal what is looked after; a burst of fills shares one write."""
        if self._tidying:
            return
        self._tidying = True
        await asyncio.sleep(_TIDY_S)
        self._tidying = False
        await self._note(self._memo())

    def _memo(self) -> changes.Memo:
        return changes.Memo(name=GUARDED_MEMO, value=msgspec.json.encode(sorted(self._open)))

    async def _watch(self, job: Job, intent: Intent, filled: float, *, anew: bool) -> None:
        request, tries, seen = intent.request, 0, False
        await self._read()
        began = self._clock.monotonic()
        while True:
            position = self._position(intent)
            late = self._clock.monotonic() - began > STOP_WITHIN_S
            if position is None:
                if seen or late or (self._book.over(intent.magic) and not self._book.netting):
                    return  # closed meanwhile, by its stop, its target, a signal or a person
                await asyncio.sleep(_PAUSE_S)
                await self._read()
                continue
            if not seen:
                seen, late, began = True, False, self._clock.monotonic()
            if _protected(position, request, self._half_tick(position.symbol), anew=anew):
                return
            if tries >= STOP_TRIES or late:
                await self._close(job, intent, position, filled, anew=anew)
                return
            tries += 1
            await self._set(job, position, request, began)
            await self._read()

    async def _read(self) -> None:
        """A complete read; waits until there is one. What cannot be read is not gone (P8)."""
        pause = _PAUSE_S
        while True:
            try:
                await self._book.refresh(priority=Priority.HIGH, spaced=True)
            except MT5Error as error:
                logger.bind(event="refresh_failed").warning("The account cannot be read: {error}", error=error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_MOST_S)
            else:
                return

    def _position(self, intent: Intent) -> Position | None:
        for position in self._book.positions.values():
            if position.magic == intent.magic:
                return position
        if self._book.netting:
            # One position a symbol. On the other side of the order it was only reduced: its own stop stands.
            return next((p for p in self._book.positions.values() if _grown_by(p, intent.request)), None)
        return None

    def _half_tick(self, symbol: str) -> float:
        info = self._book.symbols.get(symbol)
        return (info.tick_size / 2 if info else 0.0) + _ROUNDING

    # --- acting

    async def _set(self, job: Job, position: Position, asked: OrderRequest, began: float) -> None:
        self._desk.stats.stops_repaired += 1
        logger.bind(event="stop_missing", ticket=position.ticket).warning(
            "Position {t} lacks its stop or target: setting them", t=position.ticket
        )
        left = STOP_WITHIN_S - (self._clock.monotonic() - began)
        request = OrderRequest(
            deed=Deed.SLTP,
            symbol=position.symbol,
            position=position.ticket,
            type=OrderType.of(position.side),
            stop_loss=asked.stop_loss or position.stop_loss,
            take_profit=asked.take_profit or position.take_profit,
            # Somebody, or a managed stop, may have brought it nearer since it was read.
            nearer_only=bool(asked.stop_loss),
            keeps_stop=not asked.stop_loss,
            keeps_target=not asked.take_profit,
        )
        sent = await self._send(job, request, Action.MODIFY, None, timeout=max(left, 1.0))
        if sent.state is not IntentState.MODIFIED:
            await asyncio.sleep(_PAUSE_S)

    async def _close(self, job: Job, intent: Intent, position: Position, filled: float, *, anew: bool) -> None:
        """Close it, however long that takes, and say so once it is done; say at once when it does not work.

        On netting the position may hold more than this order's part of it, `filled` lots: no more is closed.
        """
        logger.bind(event="stop_not_set", ticket=position.ticket).error(
            "ERROR the stop of position {t} cannot be set: closing it", t=position.ticket
        )
        left: Position | None = position
        told, pause, mine = False, _SETTLE_S, filled
        while left is not None and mine > _ROUNDING:
            if _protected(left, intent.request, self._half_tick(left.symbol), anew=anew):
                self._report(job, Status.FILLED, "it is set now", None)
                return
            sent = await self._close_once(job, left, min(left.volume, mine) if self._book.netting else left.volume)
            mine = round(mine - closed_volume(sent), 8) if self._book.netting else mine
            if sent.state is IntentState.CLOSED:
                self._report(job, Status.CLOSED, "the position was closed", sent)
                return
            if not told:
                told = True
                self._report(job, Status.FILLED, "the position could not be closed yet", sent)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_MOST_S)
            await self._read()
            left = self._position(intent)
        self._report(job, Status.CLOSED, "the position is closed", None)

    async def _close_once(self, job: Job, position: Position, volume: float) -> Sent:
        quote = await self._quote(position)
        request = plan.close_request(
            plan.Close(position, volume),
            quote,
            magic=0,
            comment=comment_for("stop not set"),
            deviation_points=self._deviation,
        )
        return await self._send(job, request, Action.CLOSE, position.volume, timeout=_CLOSE_TIMEOUT_S)

    async def _quote(self, position: Position) -> Quote:
        try:
            return await self._terminal.get_price(position.symbol, priority=Priority.CRITICAL)
        except MT5Error:
            # The position's own current price is that of its closing side.
            price = position.price_current
            return Quote(position.symbol, price, price, 0.0, 0.0, 0)

    async def _send(
        self, job: Job, request: OrderRequest, action: Action, volume: float | None, *, timeout: float
    ) -> Sent:
        """An order the bridge adds of its own accord to protect a fill: no halt holds it up, nor a full disk."""
        job.follow_ups += 1
        magic = await self._magic(job)
        intent = Intent(
            key=job.key,
            leg=job.follow_ups,
            request=msgspec.structs.replace(request, magic=magic),
            action=action.value,
            volume_before=volume,
        )
        await self._note(self._desk.opened(intent, self._clock.now_ms()))
        sent = await self._desk.send(None, intent, check=lambda: None, priority=Priority.CRITICAL, timeout=timeout)
        self._desk.give_back(magic)
        await self._note(self._desk.moved(magic, sent, self._clock.now_ms()))
        if sent.state is not IntentState.UNKNOWN:
            return sent
        if action is Action.CLOSE:
            return await self._settled(intent, sent)
        # Whether a stop is set the next read shows; only the journal waits for the outcome.
        self._desk.spawn(self._settled(intent, sent))
        return sent

    async def _magic(self, job: Job) -> int:
        try:
            return await self._desk.magic(job.key, job.follow_ups)
        except JournalError:
            return self._desk.natural_magic(job.key, job.follow_ups)

    async def _settled(self, intent: Intent, sent: Sent) -> Sent:
        """An unknown close is sent again only when it certainly did nothing: looked up like any other."""
        found = await self._desk.resolve(self._desk.case(intent, sent.sent_msc))
        settled = Sent(state=found.state, request=intent.request, found=found, sent_msc=sent.sent_msc)
        await self._note(self._desk.moved(intent.magic, settled, self._clock.now_ms()))
        return settled

    async def _note(self, change: changes.Change) -> None:
        try:
            await self._desk.commit(change)
        except JournalError as error:
            logger.bind(event="intent_not_journalled").error(
                "ERROR an order that protects a position is not journalled: {error}", error=error
            )

    def _report(self, job: Job, status: Status, words: str, sent: Sent | None) -> None:
        """Correct the result of the fill; acting does not wait for the journal."""
        report = result(
            job,
            status,
            now_msc=self._clock.now_ms(),
            reason=Reason.STOP_NOT_SET,
            detail=f"the stop could not be set after the fill; {words}",
            request=sent.request if sent else None,
            answer=sent.answer if sent else None,
            retcode_text=sent.retcode_text if sent else None,
            supersedes=job.event_id,
        )
        self._desk.spawn(self._desk.correct(job, report))


def closed_volume(sent: Sent) -> float:
    """Lots that a close has closed for certain."""
    if sent.state not in (IntentState.CLOSED, IntentState.PARTIAL):
        return 0.0
    return sent.volume or (sent.request.volume if sent.state is IntentState.CLOSED else 0.0)


def _grown_by(position: Position, opening: OrderRequest) -> bool:
    """Whether an opening that filled is part of a netting position."""
    return position.symbol == opening.symbol and position.side is opening.type.side


def _protected(position: Position, asked: OrderRequest, half_tick: float, *, anew: bool = False) -> bool:
    """Whether stop and target are there, the stop at least as near as asked for.

    Args:
        position: as the terminal shows it.
        asked: the opening.
        half_tick: what rounding may make of a price.
        anew: any stop will do.
    """
    if asked.take_profit and not position.take_profit:
        return False
    if not asked.stop_loss:
        return True
    if not position.stop_loss:
        return False
    nearer = position.stop_loss - asked.stop_loss
    return anew or (nearer if position.side is Side.BUY else -nearer) >= -half_tick
