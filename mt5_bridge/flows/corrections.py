"""What becomes of an order after its result: found after it was given up, or filled after it was placed.

An intent is abandoned when the settle window passed without a trace of it. It may be there all the same: history that
lags by minutes, a server that answered late. Every change of the account, and a look now and then for a day, is held
against what was abandoned; its result is corrected, once, naming the one it replaces. A pending order that has filled
is a fill like any other: its position must carry the stop that was asked for.
"""

import asyncio

import msgspec
from loguru import logger

from mt5_bridge.core.errors import BridgeError
from mt5_bridge.core.intent import DONE, IntentState
from mt5_bridge.core.times import DAY
from mt5_bridge.flows.book import Book, Change
from mt5_bridge.flows.clock import Clock
from mt5_bridge.flows.exits import Exits
from mt5_bridge.flows.job import Job
from mt5_bridge.flows.orders import OrderDesk, Sent
from mt5_bridge.flows.plans import follow_ups
from mt5_bridge.flows.protect import StopGuard
from mt5_bridge.flows.settle import Picture, judge
from mt5_bridge.flows.signals import Intake
from mt5_bridge.flows.stored import intent_of, part_of
from mt5_bridge.flows.trader import Trader
from mt5_bridge.journal.journal import Journal
from mt5_bridge.journal.rows import SignalStory, StoredIntent, StoredSignal

_FILLED = (IntentState.FILLED, IntentState.PARTIAL)
LOOK_S = 15.0
_SPACING_S = 0.1
_RETRY_S = 1.0


class Corrections:
    """Watches for what was abandoned.

    Args:
        book: its changes show magics that turn up.
        desk: knows what this life abandoned; the journal knows of earlier lives.
    """

    def __init__(
        self,
        journal: Journal,
        book: Book,
        desk: OrderDesk,
        trader: Trader,
        exits: Exits,
        guard: StopGuard,
        intake: Intake,
        clock: Clock,
    ) -> None:
        self.corrected = 0
        self._journal = journal
        self._book = book
        self._desk = desk
        self._trader = trader
        self._exits = exits
        self._guard = guard
        self._intake = intake
        self._clock = clock
        self._seen: set[int] = set()
        self._done: set[int] = set()
        self._wake = asyncio.Event()
        book.on_change(self._changed)

    async def run(self) -> None:
        """Look after each change that shows a new magic, and every quarter of a minute, for ever."""
        await self._book.reconciled.wait()
        began = False
        while True:
            try:
                if not began:
                    self._seen |= set(await self._journal.magics_opened_since(self._clock.now_ms() - DAY))
                    began = True
                await self._look()
            except BridgeError as error:
                logger.bind(event="corrections_wait").warning("Abandoned orders are looked for later: {e}", e=error)
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(_SPACING_S)

    def _changed(self, change: Change) -> None:
        magics = {p.magic for p in change.opened} | {d.magic for d in change.deals}
        magics |= {order.magic for order in (*change.placed, *change.gone)}
        self._seen |= magics - {0}
        self._wake.set()

    async def _look(self) -> None:
        self._wake.clear()
        asked = self._seen | self._desk.abandoned
        if not asked:
            return
        # What shows while this look is under way is for the next one.
        self._seen = set()
        try:
            again = await self._judged(asked)
        except BaseException:
            self._seen |= asked
            raise
        self._seen |= again

    async def _judged(self, asked: set[int]) -> set[int]:
        """Judge what these magics have become; returns those to be asked about again."""
        stored = await self._journal.intents_by_magic(asked)
        lost = [intent for intent in stored.values() if intent.state == IntentState.ABANDONED.value]
        standing = {order.magic for order in self._book.orders.values()}
        ended = [i for i in stored.values() if i.state == IntentState.PLACED.value and i.magic not in standing]
        unclear = {intent.magic for intent in stored.values() if IntentState(intent.state).open}
        if lost or ended:
            picture = await self._desk.picture(min(intent.opened_msc for intent in (*lost, *ended)))
            for intent in lost:
                await self._judge(intent, picture)
            unclear |= {intent.magic for intent in ended if not await self._end(intent, picture)}
        too_old = self._clock.now_ms() - DAY
        self._desk.abandoned -= asked - {intent.magic for intent in lost if intent.opened_msc >= too_old}
        self._desk.abandoned |= {i.magic for i in lost if i.opened_msc >= too_old} - self._done
        self._done.clear()
        return unclear

    async def _end(self, stored: StoredIntent, picture: Picture) -> bool:
        """Note what became of a pending order, and look after the stop of its fill. False: history lags."""
        intent = intent_of(stored)
        found = judge(self._desk.case(intent, stored.opened_msc), picture)
        if found is None or found.state not in DONE or not found.whole:
            return False
        sent = Sent(state=found.state, request=intent.request, found=found, detail=found.detail)
        moved = self._desk.moved(intent.magic, sent, self._clock.now_ms())
        story = await self._journal.signal(stored.key)
        if found.state not in _FILLED or story is None:
            await self._desk.commit(moved)
            return True
        await self._desk.commit(moved, *self._guard.begin(intent))
        self._desk.spawn(self._guard.watch(self._job(story, stored), intent, sent.volume, anew=True))
        return True

    def _job(self, story: SignalStory, stored: StoredIntent) -> Job:
        """The signal as it stands now, for what is still to be said of it."""
        job = self._intake.resume(story.signal)
        job.symbol, job.attempts, job.sent_msc = stored.symbol, 1, stored.opened_msc
        job.follow_ups = follow_ups(story.intents)
        job.event_id = story.corrections[-1].event_id if story.corrections else story.signal.event_id
        return job

    async def _judge(self, stored: StoredIntent, picture: Picture) -> None:
        intent = intent_of(stored)
        found = judge(self._desk.case(intent, stored.opened_msc), picture)
        if found is None or found.state not in DONE or not found.whole:
            return
        sent = Sent(state=found.state, request=intent.request, found=found, detail="found after it was given up")
        moved = self._desk.moved(intent.magic, sent, self._clock.now_ms())
        row = (await self._journal.seen([stored.key])).get(stored.key)
        self._done.add(stored.magic)
        if row is None or row.status is None or (intent.action != row.action):
            await self._desk.commit(moved)  # an order of the bridge's own: nobody was told a result
            return
        await self._correct(row, stored, sent)
        self.corrected += 1

    async def _correct(self, row: StoredSignal, stored: StoredIntent, sent: Sent) -> None:
        story = await self._journal.signal(row.key)
        assert story is not None
        job = self._job(story, stored)
        intent, now = intent_of(stored), self._clock.now_ms()
        moved = self._desk.moved(intent.magic, sent, now)
        if job.signal.action.opens:
            better = self._trader.result(job, sent, now, supersedes=job.event_id)
            filled = sent.state in _FILLED
            more = self._guard.begin(intent) if filled else ()
            await self._desk.correct(job, better, moved, *more)
            if filled:
                self._desk.spawn(self._guard.watch(job, intent, sent.volume))
            return
        parts = [part_of(each) for each in story.intents]
        for part in parts:
            if part.intent.magic == intent.magic:
                part.sent = sent
        better = self._exits.result(job, parts, supersedes=job.event_id)
        await self._desk.correct(job, msgspec.structs.replace(better, detail=sent.detail), moved)
