"""The broker's clock: its wall time is encoded as if it were UTC, and nobody tells by how much it is off.

The offset is inferred from *advancing* ticks (a tick that came between two looks happened between them; weekend
leftovers advance nothing), rounded to 15 minutes, or taken from a time zone. Changes are kept as a timeline in raw
broker time, so that a tick is converted with the offset valid at it. A step back of broker time over ticks makes raw
times ambiguous: it begins a new epoch.

Clocks change over weekends, while most markets are closed. The first tick of a symbol after a silence proves nothing,
since it may be a leftover; but one from behind a weekend that is an hour off, or from the future, raises a doubt, and
nothing is converted until others have settled it.

A time zone that advancing ticks contradict is wrong, and given up: with it, ticks would leave an hour in the future. An
earlier run's offset that differs from the zone's stands until ticks have decided between them.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import Enum
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec

GRAIN_MS = 15 * 60_000
"""Offsets of time zones are multiples of 15 minutes."""
MAX_RESIDUAL_MS = 5 * 60_000
"""How far PC clock and tick may disagree beyond a whole grain: more is a wrong PC clock or an old tick."""
MAX_GAP_MS = 60_000
"""A symbol not looked at for longer says nothing about when its tick came."""
MIN_OFFSET_MS = -12 * 3_600_000
MAX_OFFSET_MS = 14 * 3_600_000
DOUBTED_MS = 60 * 60_000
"""What clocks are changed by."""
OVERLAP_MS = 10 * 60_000
"""Ticks may come in disorder by so much: nearer to the last one than that, a step back may have gone over it."""
FIRST_AGREEING = 2
CHANGE_AGREEING = 3
DAY_MS = 86_400_000
ZONE_WRONG_MS = 2_000
"""How long ticks must contradict a time zone: right at its step, many symbols' last ticks are from before it."""


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """From `from_raw_msc` (raw broker time) on, in `epoch`, broker time is UTC plus `offset_ms`."""

    epoch: int
    from_raw_msc: int
    offset_ms: int


class _Look(msgspec.Struct, gc=False):
    raw: int
    now: int


class _Candidate(msgspec.Struct, gc=False):
    offset: int
    first_raw: int
    first_now: int
    count: int = 0


class _News(Enum):
    FIRST = "a tick of nobody knows when"
    NONE = "the tick that was seen before"
    LATE = "another tick, after a silence"
    ADVANCED = "another tick, of just now"


class BrokerClock:
    """Converts between raw broker time and UTC, both in ms.

    Args:
        timezone: IANA name of the broker's time zone (MT5_SERVER_TIMEZONE); None: infer.
        offset_ms: a first guess to begin with, still corrected by ticks.
        timeline: what an earlier run knew (`timeline` of then).
        on_change: called with the new timeline whenever it changed, for whoever keeps it.

    Attributes:
        skew_ms: how far the last live tick was from the PC's clock once the offset is taken off; None before the first.
    """

    def __init__(
        self,
        *,
        timezone: str | None = None,
        offset_ms: int | None = None,
        timeline: Sequence[Segment] = (),
        on_change: Callable[[tuple[Segment, ...]], None] | None = None,
    ) -> None:
        self.skew_ms: int | None = None
        self._zone = ZoneInfo(timezone) if timezone else None
        self._timeline = tuple(timeline)
        if not self._timeline and offset_ms is not None:
            self._timeline = (Segment(0, 0, offset_ms),)
        self._on_change = on_change
        self._looks: dict[str, _Look] = {}
        self._candidate: _Candidate | None = None
        self._confirmed_now: int | None = None
        self._heard_raw: int | None = None
        """The newest tick that the offset was right for; None: not known."""
        self._unseen = False
        """No tick has been looked at since an earlier run's timeline was taken up."""
        self._zone_cell = -1
        self._undecided = 0
        """How many ticks may still decide between the zone and what an earlier run knew."""
        self._cells: dict[int, int] = {}

    @property
    def settled(self) -> bool:
        """The offset is known, and ticks do not contradict it just now: what it converts may leave."""
        return bool(self._timeline) and self._candidate is None and not self._undecided and not self._unseen

    @property
    def timeline(self) -> tuple[Segment, ...]:
        """Every offset known so far, oldest first."""
        return self._timeline

    @property
    def timezone(self) -> str | None:
        """The broker's time zone where it is known; None: the offset is inferred."""
        return self._zone.key if self._zone is not None else None

    @property
    def offset_ms(self) -> int | None:
        """Broker time minus UTC now; None until known."""
        return self._timeline[-1].offset_ms if self._timeline else None

    @property
    def epoch(self) -> int:
        """Grows with every step back of broker time."""
        return self._timeline[-1].epoch if self._timeline else 0

    def epoch_begins(self, epoch: int) -> int:
        """Raw time at which an epoch began; 0 for one that nobody saw begin."""
        return next((s.from_raw_msc for s in self._timeline if s.epoch == epoch), 0)

    def shown_twice(self, raw_msc: int, epoch: int) -> bool:
        """Whether broker time had shown a time of this epoch before: it stepped back over it when the epoch began."""
        for before, first in pairwise(self._timeline):
            if first.epoch == epoch != before.epoch:
                return raw_msc < first.from_raw_msc + before.offset_ms - first.offset_ms + MAX_GAP_MS
        return False

    def restore(self, timeline: Sequence[Segment], heard_raw: int | None = None) -> None:
        """Begin with what an earlier run knew; what ticks have shown meanwhile is kept.

        Args:
            timeline: the other run's.
            heard_raw: the raw time of the last tick that it converted, in the last epoch; None: not known.
        """
        if timeline and self._confirmed_now is None:
            self._timeline = tuple(timeline)
            self._zone_cell = -1
            self._heard_raw = heard_raw
            self._unseen = self._zone is None
            self._undecided = CHANGE_AGREEING if self._zone is not None else 0

    def on_change(self, callback: Callable[[tuple[Segment, ...]], None]) -> None:
        """Set who is told of a changed timeline."""
        self._on_change = callback

    def observe(self, symbol: str, raw_msc: int, now_msc: int) -> bool:
        """Learn from a symbol's last tick.

        Args:
            symbol: whose tick it is.
            raw_msc: its raw time; 0 while the symbol has none.
            now_msc: UTC ms when it was seen.

        Returns:
            Whether the offset changed or became known.
        """
        changed = self._follow_zone(now_msc)
        if raw_msc <= 0:
            return changed
        self._unseen = False
        offset = round((raw_msc - now_msc) / GRAIN_MS) * GRAIN_MS
        residual = raw_msc - now_msc - offset
        news = self._look(symbol, raw_msc, now_msc)
        if news is not _News.ADVANCED:
            return self._heard(news, offset, raw_msc, now_msc) or changed
        self.skew_ms = residual if self._zone is None else raw_msc - now_msc - (self.offset_ms or 0)
        if abs(residual) > MAX_RESIDUAL_MS or not MIN_OFFSET_MS <= offset <= MAX_OFFSET_MS:
            if self._candidate is not None and self._candidate.count:
                self._candidate = None
            return self._decide(None, now_msc) if self._undecided else changed
        if self._undecided:
            return self._decide(offset, now_msc)
        if offset == self.offset_ms:
            self._candidate = None
            self._confirmed_now = now_msc
            self._heard_raw = raw_msc
            return changed
        return self._contradicted(offset, raw_msc, now_msc) or changed

    def _look(self, symbol: str, raw: int, now: int) -> "_News":
        look = self._looks.get(symbol)
        if look is None:
            self._looks[symbol] = _Look(raw, now)
            return _News.FIRST
        moved, gap = raw != look.raw, now - look.now
        look.raw, look.now = raw, now
        if not moved:
            return _News.NONE
        return _News.ADVANCED if 0 <= gap <= MAX_GAP_MS else _News.LATE

    def _heard(self, news: _News, offset: int, raw: int, now: int) -> bool:
        """Take note of a tick that may be a leftover, or tell of a step.

        What clears a doubt up is an advancing tick, or where there are none, those that come one by one: leftovers come
        all at once, when a symbol is looked at first or a terminal has its connection again.
        """
        known, candidate = self.offset_ms, self._candidate
        if known is None or self._zone is not None or self._undecided or news is _News.NONE:
            return False
        ahead = raw - now - known
        fits = abs(ahead) <= MAX_RESIDUAL_MS
        if candidate is None:
            an_hour_off = abs(abs(ahead) - DOUBTED_MS) <= MAX_RESIDUAL_MS
            if (an_hour_off or ahead > MAX_RESIDUAL_MS) and self._over_the_weekend(raw) is not None:
                self._candidate = _Candidate(offset if an_hour_off else known + DOUBTED_MS, raw, now)
        elif news is _News.LATE and now - candidate.first_now > MAX_GAP_MS:
            if fits:
                self._candidate = None
            elif abs(raw - now - candidate.offset) <= MAX_RESIDUAL_MS:
                return self._contradicted(candidate.offset, raw, now)
        if fits and news is _News.LATE:
            self._heard_raw = raw
        return False

    def _contradicted(self, offset: int, raw: int, now: int) -> bool:
        candidate = self._candidate
        if candidate is None or candidate.offset != offset:
            candidate = self._candidate = _Candidate(offset, raw, now)
        candidate.count += 1
        if candidate.count < (CHANGE_AGREEING if self._timeline else FIRST_AGREEING):
            return False
        if self._zone is not None and now - candidate.first_now < ZONE_WRONG_MS:
            return False
        self._candidate = None
        never_right = self._zone is not None and self._confirmed_now is None
        self._give_up_zone(offset)
        if not self._timeline:
            self._append(Segment(0, 0, offset))
        elif never_right:
            last = self._timeline[-1]
            self._timeline = self._timeline[:-1]
            self._append(Segment(last.epoch, last.from_raw_msc, offset))
        else:
            # The step came between the last tick that fitted and the first that did not.
            slack = MAX_GAP_MS if self._confirmed_now is None else candidate.first_now - self._confirmed_now
            begin = candidate.first_raw - min(max(slack, 0), MAX_GAP_MS)
            self._append_step(offset, self._over_the_weekend(candidate.first_raw) or begin, candidate.first_raw)
        self._confirmed_now = now
        self._heard_raw = raw
        return True

    def _over_the_weekend(self, raw: int) -> int | None:
        """The begin of the Sunday (raw) in the silence before a tick; None where there was none."""
        day = raw // DAY_MS
        sunday = (day - (day + 4) % 7) * DAY_MS  # the first of January 1970 was a Thursday
        return sunday if self._heard_raw is not None and self._heard_raw < sunday else None

    def _append_step(self, offset: int, from_raw: int, first_raw: int) -> None:
        """A step, seen by a tick first: one back makes no time ambiguous where no tick was later than that one.

        What a market that never closes showed while no bridge ran nobody knows: of the hour that it showed twice then,
        only once is read.
        """
        last = self._timeline[-1]
        over = self._heard_raw is None or first_raw <= self._heard_raw + OVERLAP_MS
        epoch = last.epoch + 1 if offset < last.offset_ms and over else last.epoch
        if epoch == last.epoch:
            from_raw = max(from_raw, last.from_raw_msc)
        self._append(Segment(epoch, from_raw, offset))

    def _append(self, segment: Segment) -> None:
        self._timeline = (*self._timeline, segment)
        if self._on_change is not None:
            self._on_change(self._timeline)

    def _decide(self, offset: int | None, now: int) -> bool:
        """A tick's word on whether the zone is right or what an earlier run knew; None: it cannot tell."""
        self._undecided -= 1
        if self._zone is not None and offset == _zone_at(now, self._zone):
            self._undecided = 0
        if self._undecided:
            return False
        if offset == self.offset_ms:
            self._give_up_zone(offset)
            self._confirmed_now = now
            return False
        return self._follow_zone(now)

    def _give_up_zone(self, offset: int | None) -> None:
        if self._zone is None:
            return
        from loguru import logger  # the history host converts with this clock and must stay small

        logger.bind(event="broker_zone_wrong", zone=self._zone.key, offset_ms=offset).error(
            "ERROR MT5_SERVER_TIMEZONE={zone} is wrong, mend it: ticks, which are believed, say UTC{hours:+g} h",
            zone=self._zone.key,
            hours=(offset or 0) / 3_600_000,
        )
        self._zone = None

    def _follow_zone(self, now: int) -> bool:
        cell = now // GRAIN_MS
        if cell == self._zone_cell or self._zone is None:
            return False
        offset = _zone_at(now, self._zone)
        if offset == self.offset_ms:
            self._undecided = 0
        if self._undecided:
            return False
        self._zone_cell = cell
        if offset == self.offset_ms:
            return False
        if not self._timeline:
            self._append(Segment(0, 0, offset))
        else:
            self._append_step(offset, cell * GRAIN_MS + offset, cell * GRAIN_MS + offset)
        return True

    def offset_at(self, raw_msc: int, epoch: int | None = None) -> int:
        """Broker time minus UTC, in ms, at a raw time.

        Args:
            raw_msc: raw broker time.
            epoch: the epoch it belongs to; None: the current one.

        Returns:
            The offset; 0 while none is known (ask `offset_ms` where that matters).
        """
        limit = self.epoch if epoch is None else epoch
        for segment in reversed(self._timeline):
            if segment.epoch <= limit and segment.from_raw_msc <= raw_msc:
                if self._zone is not None and segment is self._timeline[0]:
                    break
                return segment.offset_ms
        if self._zone is not None:
            cell = raw_msc // GRAIN_MS
            known = self._cells.get(cell)
            return self._zone_offset(cell) if known is None else known
        return self._timeline[0].offset_ms if self._timeline else 0

    def _zone_offset(self, cell: int) -> int:
        if len(self._cells) > 4096:
            self._cells.clear()
        wall = datetime.fromtimestamp(cell * GRAIN_MS / 1000, UTC).replace(tzinfo=self._zone)
        offset = self._cells[cell] = _offset_ms(wall)
        return offset

    def to_utc(self, raw_msc: int, epoch: int | None = None) -> int:
        """UTC ms of a raw time; 0 (the terminal's "never") stays 0."""
        return raw_msc - self.offset_at(raw_msc, epoch) if raw_msc else 0

    def to_broker(self, utc_msc: int) -> int:
        """Raw broker ms of a UTC time, in the offset of now or, for the past, the one then valid."""
        offset = self.offset_ms or 0
        return utc_msc + self.offset_at(utc_msc + offset)


def _zone_at(now: int, zone: ZoneInfo) -> int:
    return _offset_ms(datetime.fromtimestamp(now // GRAIN_MS * GRAIN_MS / 1000, UTC).astimezone(zone))


def _offset_ms(wall: datetime) -> int:
    offset = wall.utcoffset()
    return int(offset.total_seconds() * 1000) if offset is not None else 0
