"""The paper terminal in itself: no daemon, no broker, one process that calls its functions."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import mt5_bridge.simulator as mt5
from benchmarks.figures import Figure, Section, percentile

TICKS = 100_000
POSITIONS = PENDINGS = 1_000
HELD = ("EURUSD", "GBPUSD", "USDJPY", "AUDUSD", "USDCAD", "USDCHF", "NZDUSD", "EURJPY", "GBPJPY", "XAUUSD")
DAY_S = 86_400
DAY_TICKS = 1_000_000
METHOD = """\
The terminal's functions, called in one process on a clock moved by hand. `copy_ticks_from` asks for 100,000 ticks of a
recording (EURUSD) and of a seeded walk (GBPUSD), the first time in a new terminal, where they have yet to be made, and
then for the same again. `order_send` opens and closes at the market, by turns, on ten symbols with 1,000 positions
open, in memory and on this disk (SQLite, written before it answers, never synced: it survives a kill, not a power cut),
while the market stands still and with 100 ms of ticks to work off before each. A tick with 1,000 pendings waiting on
ten symbols comes from a test's hand, or as the clock passes it. A day is replayed in one step, twelve symbols with ten
positions and pendings each, stops and targets among them."""


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 sends 4,000 orders in each setting and applies 4,000 ticks."""
    rounds = max(100, int(2_000 * scale))
    figures = [*_copies(max(3, int(20 * scale)))]
    figures += _orders("in memory", rounds, {})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        figures += _orders("on this disk", rounds, {"DATA_DIR": folder})
    figures += _ticks(2 * rounds)
    figures += _day(scale)
    return Section("The paper terminal", METHOD, tuple(figures))


@contextmanager
def _terminal(**settings: Any) -> Iterator[mt5.MarketControl]:
    market = mt5.install(clock="manual", balance=100_000_000, leverage=500, **settings)
    try:
        _must(mt5.initialize())
        for symbol in market.specs:
            _must(mt5.symbol_select(symbol))
        market.advance(60)
        yield market
    finally:
        mt5.uninstall()


def _copies(rounds: int) -> Iterator[Figure]:
    for symbol, what in (("EURUSD", "of a recording"), ("GBPUSD", "of a walk")):
        first: list[float] = []
        again: list[float] = []
        for _ in range(rounds):
            # A new terminal each time: nothing of what is asked for has been made before.
            with _terminal() as market:
                market.advance(5 * DAY_S)
                start = mt5.symbol_info_tick(symbol).time - 5 * DAY_S
                for times in (first, again):
                    times.append(_timed(lambda: len(_must(mt5.copy_ticks_from(symbol, start, TICKS, -1))), TICKS))  # noqa: B023 - called at once
        yield Figure(f"copy_ticks_from, 100,000 ticks {what}, first time", median(first) * 1e3, "ms", 5)
        yield Figure(f"copy_ticks_from, 100,000 ticks {what}, again", median(again) * 1e3, "ms", 5)


def _orders(where: str, rounds: int, settings: dict[str, str]) -> Iterator[Figure]:
    with _terminal(**settings) as market:
        for n in range(POSITIONS):
            _sent(_deal(HELD[n % 10], n % 2))
        for pause, what in ((0.0, "quiet market"), (0.1, "100 ms of ticks before it")):
            times: list[float] = []
            for n in range(rounds):
                symbol, side = HELD[n % 10], n % 2
                _pass(market, pause)
                opened = _clocked(_deal(symbol, side), times)
                _pass(market, pause)
                _clocked({**_deal(symbol, 1 - side), "position": opened.order}, times)
            assert mt5.positions_total() == POSITIONS
            yield Figure(f"order_send {where}, {what}, p50", median(times) * 1e6, "µs", 100)
            yield Figure(f"order_send {where}, {what}, p99", percentile(times, 99) * 1e6, "µs")


def _ticks(rounds: int) -> Iterator[Figure]:
    with _terminal() as market:
        for n in range(PENDINGS):
            quote = mt5.symbol_info_tick(HELD[n % 10])
            # Buy limits below, sell limits above: near enough to be looked at, too far to be reached.
            price = quote.bid * 0.8 if n % 2 == 0 else quote.ask * 1.2
            _sent({**_deal(HELD[n % 10], n % 2), "action": 5, "type": 2 + n % 2, "price": price})
        market.tick("EURUSD", 1.12, 1.1201)
        by_hand: list[float] = []
        for n in range(rounds):
            _pass(market, 0.001)
            bid = round(1.12 + n % 50 * 1e-5, 5)
            by_hand.append(_timed(lambda: market.tick("EURUSD", bid, round(bid + 1e-4, 5))))  # noqa: B023 - called at once
        passing: list[float] = []
        feed = market.market.feeds["GBPUSD"]
        for _ in range(rounds):
            # To the next tick of one symbol, with those of the others that fall before it.
            pause = feed.next_time(feed.index_after(market.now())) - market.now()
            before = sum(_tick_counts(market))
            took = _timed(lambda: market.advance(pause / 1000))  # noqa: B023 - called at once
            passing.append(took / (sum(_tick_counts(market)) - before))
        assert mt5.orders_total() == PENDINGS
        yield Figure("a tick by hand with 1,000 pendings, p50", median(by_hand) * 1e6, "µs", 20)
        yield Figure("a tick by hand with 1,000 pendings, p99", percentile(by_hand, 99) * 1e6, "µs")
        yield Figure("a tick as time passes with 1,000 pendings, p50", median(passing) * 1e6, "µs", 20)
        yield Figure("a tick as time passes with 1,000 pendings, p99", percentile(passing, 99) * 1e6, "µs")


def _day(scale: float) -> Iterator[Figure]:
    with _terminal(speed="0.36") as market:
        for n in range(240):
            symbol = list(market.specs)[n % 12]
            _sent(_armed(symbol, n // 12))
        before = sum(_tick_counts(market))
        took = _timed(lambda: market.advance(DAY_S * min(scale, 1.0)))
        ticks = sum(_tick_counts(market)) - before
        yield Figure("ticks of the day", ticks, "ticks", DAY_TICKS * min(scale, 1.0), at_least=True)
        yield Figure("deals of the day", mt5.history_deals_total(0, 2**31 - 1), "deals")
        yield Figure("a day of twelve symbols, replayed", took, "s", 10)
        yield Figure("the same per tick", took / ticks * 1e6, "µs")


def _armed(symbol: str, n: int) -> dict[str, Any]:
    """A position with stop and target, or a pending, at distances that a day reaches for some."""
    quote = mt5.symbol_info_tick(symbol)
    if n % 2:
        kind = 2 + n // 2 % 4
        below = kind in (mt5.ORDER_TYPE_BUY_LIMIT, mt5.ORDER_TYPE_SELL_STOP)
        price = (quote.bid if below else quote.ask) * (1 + (-0.01 if below else 0.01) * (1 + n // 4))
        return {**_deal(symbol, 0), "action": 5, "type": kind, "price": price}
    sign = 1 - n // 2 % 2 * 2
    return {
        **_deal(symbol, n // 2 % 2),
        "sl": quote.bid * (1 - sign * 0.005 * (1 + n // 4)),
        "tp": quote.bid * (1 + sign * 0.005 * (1 + n // 4)),
    }


def _deal(symbol: str, side: int) -> dict[str, Any]:
    filling = mt5.ORDER_FILLING_IOC if symbol == "US500" else mt5.ORDER_FILLING_FOK
    return {"action": 1, "symbol": symbol, "type": side, "volume": 0.1, "type_filling": filling}


def _sent(request: dict[str, Any]) -> Any:
    result = _must(mt5.order_send(request))
    assert result.retcode == mt5.TRADE_RETCODE_DONE, result
    return result


def _clocked(request: dict[str, Any], times: list[float]) -> Any:
    began = time.perf_counter()
    result = mt5.order_send(request)
    times.append(time.perf_counter() - began)
    assert result.retcode == mt5.TRADE_RETCODE_DONE, result
    return result


def _pass(market: mt5.MarketControl, seconds: float) -> None:
    """The clock goes on, and nobody looks."""
    market.terminal.clock.advance(seconds)  # type: ignore[attr-defined]  # a manual one


def _tick_counts(market: mt5.MarketControl) -> Iterator[int]:
    now = market.now()
    return (market.market.feeds[symbol].index_after(now) for symbol in market.specs)


def _timed(work: Callable[[], object], expected: object = None) -> float:
    began = time.perf_counter()
    result = work()
    took = time.perf_counter() - began
    assert expected is None or result == expected, result
    return took


def _must(answer: Any) -> Any:
    assert answer is not None, mt5.last_error()
    assert answer is not False, mt5.last_error()
    return answer
