"""Seeded walks: the same ticks for ever, and livelier ones where sessions are real."""

import hashlib
from fractions import Fraction

import msgspec
import numpy as np
import pytest

from mt5_bridge.simulator.config import parse
from mt5_bridge.simulator.market.catalogue import catalogue
from mt5_bridge.simulator.market.clock import MANUAL_START_MSC
from mt5_bridge.simulator.market.market import Market
from mt5_bridge.simulator.market.serverclock import ServerClock
from mt5_bridge.simulator.market.sessions import AROUND_THE_CLOCK, DAY_MSC, HOUR_MSC, METALS_WEEK, Retiming, Week
from mt5_bridge.simulator.market.sources import Ticks
from mt5_bridge.simulator.market.walk import WalkSource

SERVER = ServerClock(7200)


class Standing:
    """A clock that stands."""

    def now(self) -> int:
        return MANUAL_START_MSC


def lively(name: str, week: Week = METALS_WEEK, slot_ms: int | None = None) -> WalkSource:
    spec = catalogue()[name]
    spec = msgspec.structs.replace(spec, slot_ms=slot_ms or spec.slot_ms)
    return WalkSource(spec, 0, Retiming(MANUAL_START_MSC, Fraction(1), week, SERVER), lively=True)


def digest(settings: dict[str, str]) -> str:
    market = Market(parse(settings), Standing(), MANUAL_START_MSC)
    whole = hashlib.sha256()
    for feed in market.feeds.values():
        part = hashlib.sha256()
        oldest = feed.source.first if isinstance(feed.source, WalkSource) else 0
        for lo in (oldest, 0, 5_000_000):
            for column in feed.source.slice(lo, lo + 5000):
                part.update(column.astype("<i8").tobytes())
        whole.update(part.digest())
    return whole.hexdigest()


@pytest.mark.parametrize(
    ("settings", "known"),
    [
        ({}, "54aea1c0212e23f20bd500a0047ddd0641343ccf9f558a59bc0cac32813270f8"),
        (
            {"PAPER_SEED": "7", "PAPER_SPEED": "7/3"},
            "2c75494218217272c2ebe1bc3d1986f169a4abc24e7cc702a7b1ca310ab1a2ad",
        ),
    ],
)
def test_the_markets_ticks_are_those_of_all_versions_before(settings: dict[str, str], known: str) -> None:
    """Paper accounts on disk were traded on them."""
    assert digest(settings) == known


def test_real_sessions_repeat_too() -> None:
    settings = {"PAPER_SESSIONS": "real", "PAPER_TICKS": ""}
    assert digest(settings) == digest(settings) != digest({**settings, "PAPER_SEED": "1"})


@pytest.mark.parametrize("name", ["GBPUSD", "US500", "BTCUSD"])
def test_a_lively_walk_gives_the_same_ticks_whatever_is_asked_first(name: str) -> None:
    whole = lively(name).slice(-3000, 20_000)
    for lo, hi in ((-3000, -2999), (8190, 8200), (1000, 19_000)):
        part = lively(name).slice(lo, hi)
        assert all((a[lo + 3000 : hi + 3000] == b).all() for a, b in zip(whole, part, strict=True))
    times, bids, asks = whole
    assert (np.diff(times) >= 0).all()
    assert (asks > bids).all()
    assert (bids > 0).all()


def ticks_of(source: WalkSource, days: int) -> Ticks:
    return source.slice(0, source.index(MANUAL_START_MSC + days * DAY_MSC))


def test_the_week_opens_with_a_gap() -> None:
    times, bids, _ = ticks_of(lively("XAUUSD", slot_ms=10_000), 30)
    pauses = np.diff(times)
    weekends, breaks = np.flatnonzero(pauses > 2 * DAY_MSC), np.flatnonzero((pauses > HOUR_MSC) & (pauses < DAY_MSC))
    moves = np.abs(np.diff(bids))
    ordinary = float(np.median(moves))
    assert len(weekends) == 4
    assert len(breaks) > 15
    assert float(np.median(moves[weekends])) > 10 * ordinary
    assert 1.5 * ordinary < float(np.median(moves[breaks])) < float(np.median(moves[weekends]))


def test_there_are_spikes_of_a_single_tick() -> None:
    source = lively("BTCUSD", AROUND_THE_CLOCK)
    _, bids, _ = ticks_of(source, 3)
    moves = np.diff(bids)
    height = catalogue()["BTCUSD"].base_price * 100 * 4e-5 * 5 * 6
    far = np.flatnonzero(np.abs(moves) > height)
    back = far[:-1][(np.diff(far) == 1) & (np.sign(moves[far[:-1]]) != np.sign(moves[far[1:]]))]
    assert 5 < len(back) < 100


def test_news_move_the_price_at_once_widen_the_spread_and_fade() -> None:
    source = lively("BTCUSD", AROUND_THE_CLOCK, slot_ms=2_000)
    times, bids, asks = ticks_of(source, 20)
    market = times - MANUAL_START_MSC
    since, height = source._news(market)
    begun = np.flatnonzero((height[1:] != 0) & (height[:-1] == 0)) + 1
    assert 8 < len(begun) < 40
    spreads = asks - bids
    ordinary = float(np.median(spreads))
    for place in begun.tolist():
        assert abs(since[place]) < 4000
        assert float(np.median(spreads[place : place + 20])) > 3 * ordinary
    strong = begun[np.abs(height[begun]) > 10]
    moves = bids[strong] - bids[strong - 1]
    assert (np.sign(moves) == np.sign(height[strong])).all()
    fading = source._events(np.zeros(2, np.int64), market[begun[0]] + np.array([0, 3 * HOUR_MSC]))
    assert abs(fading[1]) < abs(fading[0]) / 50


def test_spreads_are_wide_around_the_servers_midnight() -> None:
    source = lively("BTCUSD", AROUND_THE_CLOCK)
    times, bids, asks = ticks_of(source, 3)
    of_day = SERVER.server_times(times) % DAY_MSC
    spreads = asks - bids
    rollover = (of_day < 300_000) | (of_day >= DAY_MSC - 300_000)
    assert float(np.median(spreads[rollover])) > 3 * float(np.median(spreads[~rollover]))
