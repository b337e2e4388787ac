"""P1 and P2 under the worst timing: the process dies before or after every single effect, and is started again."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_terminal import Answer, Executed, FakeTerminal, Hangs, Late, Lost, Refused, Silent
from support.flow_kit import FlowKit, clock_of_loop
from support.properties import heavy
from support.simulated import run_simulated, simulated

from mt5_bridge.core.errors import MT5ConnectionError
from mt5_bridge.core.model import Deed, OrderRequest, TradeResult

Work = Callable[[FlowKit], Awaitable[None]]
Check = Callable[[FlowKit, str], Awaitable[None]]
FINAL = {"filled", "partial", "placed", "modified", "cancelled", "closed", "rejected", "denied", "abandoned"}


class Crash:
    """Stops the world at a given step: whoever gets there, and everyone after, waits for ever."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0
        self.name = ""
        self.reached = asyncio.Event()

    async def __call__(self, name: str) -> None:
        self.count += 1
        if self.count >= self.at:
            self.name = self.name or name
            self.reached.set()
            await asyncio.get_running_loop().create_future()


def a_terminal() -> FakeTerminal:
    terminal = FakeTerminal()
    terminal.keep_time(clock_of_loop().now_ms)
    terminal.tick("EURUSD", 1.1000, 1.1001)
    return terminal


async def live(folder: Path, terminal: FakeTerminal, crash: Crash, work: Work) -> bool:
    """One life that may be cut short; True when it was not."""
    async with FlowKit.open(folder, terminal=terminal, ready=False, settle_window_s=1.0) as kit:
        kit.journal.step = terminal.step = crash
        running = asyncio.create_task(_whole(kit, work))
        stopped = asyncio.create_task(crash.reached.wait())
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        done = not crash.reached.is_set()
        if done:
            await running
            stopped.cancel()
        else:
            await kit.crash()
        await asyncio.gather(running, stopped, return_exceptions=True)
        return done


async def _whole(kit: FlowKit, work: Work) -> None:
    await kit.book.reconciled.wait()
    await work(kit)
    await kit.idle()


async def finals(kit: FlowKit, key: str) -> list[dict[str, Any]]:
    return [r for r in await kit.results(key) if r["status"] in FINAL and not r["supersedes"]]


async def every_crash(work: Work, check: Check, prepare: Work | None = None, *, stride: int = 1) -> None:
    """Die at step 1, 2, 3 … of the work; each time live again, let the topic redeliver, and check."""
    step = 1 - stride
    while True:
        step += stride
        with TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder, terminal = Path(name), a_terminal()
            if prepare is not None:
                async with FlowKit.open(folder, terminal=terminal) as kit:
                    await prepare(kit)
                    await kit.idle()
            crash = Crash(step)
            whole = await live(folder, terminal, crash, work)
            where = f"step {step}: {crash.name}"
            async with FlowKit.open(folder, terminal=terminal, settle_window_s=1.0) as kit:
                await work(kit)
                await kit.idle()
                await check(kit, where)
            if whole:
                assert step > 10, "the steps of one life"
                return


@simulated
async def test_a_buy_is_executed_once_wherever_the_process_dies() -> None:
    async def work(kit: FlowKit) -> None:
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09, record={"offset": 0})

    async def check(kit: FlowKit, where: str) -> None:
        assert len([r for r in kit.terminal.sent if r.deed is Deed.DEAL]) <= 1, where
        results = await finals(kit, "s1")
        assert len(results) == 1, where
        done = results[0]["status"] == "filled"
        assert done == bool(kit.terminal.positions), where
        assert done or results[0]["status"] in ("denied", "abandoned"), where
        assert not kit.book.in_flight(), where
        assert (await kit.journal.offsets("trading_signals")) == {0: 1}, where

    await every_crash(work, check)


@simulated
async def test_a_partial_close_is_executed_once_wherever_the_process_dies() -> None:
    async def prepare(kit: FlowKit) -> None:
        await kit.send("BUY", signal_id="open", volume=1.0, stop_loss=1.099)

    async def work(kit: FlowKit) -> None:
        await kit.send("CLOSE", signal_id="c1", volume=0.3)

    async def check(kit: FlowKit, where: str) -> None:
        (position,) = kit.terminal.positions.values()
        assert position.volume in (0.7, 1.0), where
        results = await finals(kit, "c1")
        assert len(results) == 1, where
        assert (results[0]["status"] == "closed") == (position.volume == 0.7), where

    await every_crash(work, check, prepare)


@simulated
async def test_a_close_of_three_legs_ends_in_one_result_wherever_the_process_dies() -> None:
    async def prepare(kit: FlowKit) -> None:
        for number in range(3):
            await kit.send("BUY", signal_id=f"open{number}", volume=0.2, stop_loss=1.095)

    async def work(kit: FlowKit) -> None:
        await kit.send("CLOSE", signal_id="c1", volume=0.5)

    async def check(kit: FlowKit, where: str) -> None:
        left = round(sum(p.volume for p in kit.terminal.positions.values()), 2)
        (final,) = await finals(kit, "c1")
        assert left >= 0.1, where
        assert round(0.6 - left, 2) == (final["volume_filled"] or 0.0), where

    await every_crash(work, check, prepare, stride=2)


@pytest.mark.parametrize("executed", [True, False])
@simulated
async def test_an_unknown_buy_is_looked_up_wherever_the_process_dies(executed: bool) -> None:
    async def work(kit: FlowKit) -> None:
        kit.terminal.script(Silent(-10001, executed=executed))
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09, record={"offset": 0})

    async def check(kit: FlowKit, where: str) -> None:
        results = await finals(kit, "s1")
        assert len(results) == 1, where
        assert len([r for r in kit.terminal.sent if r.deed is Deed.DEAL]) <= 1, where
        assert (results[0]["status"] == "filled") == bool(kit.terminal.positions), where

    await every_crash(work, check)


@simulated
async def test_a_trailing_stop_ends_at_the_same_place_wherever_the_process_dies() -> None:
    """And never goes back on the way there, however often it is begun anew."""

    stops: list[float] = []

    async def prepare(kit: FlowKit) -> None:
        execute = kit.terminal.execute
        stops.clear()

        def noted(request: OrderRequest) -> TradeResult:
            done = execute(request)
            stops.extend(position.stop_loss for position in kit.terminal.positions.values())
            return done

        kit.terminal.execute = noted  # type: ignore[method-assign]  # sees every stop there ever was

    async def work(kit: FlowKit) -> None:
        kit.run("trailing", "account-poll")
        await kit.send("BUY", signal_id="s1", volume=0.1, stop_loss=1.09, trailing_stop_points=200)
        await kit.result("s1")
        for bid in (1.1050, 1.1040, 1.1080, 1.1070):
            kit.terminal.tick("EURUSD", bid, round(bid + 0.0001, 5))
            await asyncio.sleep(1.5)
        await asyncio.sleep(2)

    async def check(kit: FlowKit, where: str) -> None:
        assert stops == sorted(stops), where
        for position in kit.terminal.positions.values():
            assert position.stop_loss == 1.1060, where
        assert not kit.desk.unresolved, where
        legs = await kit.journal.intents("s1")
        assert {i.state for i in legs} <= {"filled", "modified", "rejected", "abandoned"}, where
        assert len([r for r in kit.terminal.sent if r.deed is Deed.DEAL]) <= 1, where

    await every_crash(work, check, prepare, stride=3)


@settings(max_examples=heavy(15))
@given(
    st.lists(st.integers(-300, 800), min_size=1, max_size=12),
    st.sets(st.integers(0, 11), max_size=4),
    st.sampled_from(["BUY", "SELL"]),
)
def test_restarts_on_any_path_of_prices_end_with_the_same_stop(path: list[int], deaths: set[int], action: str) -> None:
    async def lived(deaths: set[int]) -> list[float]:
        with TemporaryDirectory(ignore_cleanup_errors=True) as name:
            return await _stops_on_a_path(Path(name), path, deaths, action)

    run_simulated(_alike(lived, deaths))


async def _alike(lived: Callable[[set[int]], Awaitable[list[float]]], deaths: set[int]) -> None:
    stops = await lived(deaths)
    assert stops == await lived(set())
    assert stops in (sorted(stops), sorted(stops, reverse=True))


async def _stops_on_a_path(folder: Path, path: list[int], deaths: set[int], action: str) -> list[float]:
    """The stop after each price of a path; the process dies right after some of them, a move perhaps under way."""
    terminal, stops, sign = a_terminal(), list[float](), 1 if action == "BUY" else -1
    lives = [n for n in range(len(path)) if n == 0 or n - 1 in deaths]
    for start, end in zip(lives, [*lives[1:], len(path)], strict=True):
        async with FlowKit.open(folder, terminal=terminal, settle_window_s=1.0) as kit:
            kit.run("trailing", "account-poll")
            if start == 0:
                stop = round(1.1 - sign * 0.015, 5)
                plan: dict[str, Any] = {"trailing_stop_points": 150, "break_even_points": 70}
                await kit.send(action, signal_id="s1", volume=0.1, stop_loss=stop, **plan)
                await kit.result("s1")
                await kit.idle()
            for number in range(start, end):
                bid = round(1.1 + sign * path[number] / 100_000, 5)
                terminal.tick("EURUSD", bid, round(bid + 0.0001, 5))
                if number in deaths:
                    await asyncio.sleep(0.01 * (number + 1))
                    await kit.crash()
                    break
                await asyncio.sleep(2.5)
                stops.append(next(iter(terminal.positions.values())).stop_loss)
        if end - 1 in deaths:
            async with FlowKit.open(folder, terminal=terminal, settle_window_s=1.0) as kit:
                kit.run("trailing", "account-poll")
                await asyncio.sleep(5)
                stops.append(next(iter(terminal.positions.values())).stop_loss)
    return stops


# --- any mix

ANSWERS: list[Answer] = [
    Executed(),
    Executed(bare=True),
    Executed(volume=0.05),
    Refused(10004),
    Refused(10006),
    Refused(10011),
    Refused(10031),
    Silent(-10005),
    Silent(-10005, executed=True),
    Silent(-8),
    Lost(MT5ConnectionError("broken", sent=True)),
    Lost(MT5ConnectionError("broken", sent=True), executed=True),
    Lost(MT5ConnectionError("not there")),
    Hangs(),
    Hangs(executed=True),
    Late(),
]
SIGNALS: list[dict[str, Any]] = [
    {"action": "BUY", "volume": 0.1, "stop_loss": 1.09},
    {"action": "SELL", "volume": 0.2, "stop_loss": 1.12, "take_profit": 1.08},
    {"action": "BUY_LIMIT", "volume": 0.1, "price": 1.05, "stop_loss": 1.04},
    {"action": "BUY", "volume": 0.1, "stop_loss": 1.09, "trailing_stop_points": 50},
    {"action": "MODIFY", "target_signal_id": "s0", "break_even_points": 50},
    {"action": "CLOSE"},
    {"action": "CLOSE", "volume": 0.07},
    {"action": "CLOSE", "target_signal_id": "s0"},
    {"action": "CANCEL", "target_signal_id": "s0"},
    {"action": "MODIFY", "target_signal_id": "s0", "stop_loss": 1.095},
]
life = st.tuples(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(SIGNALS), st.booleans()), min_size=1, max_size=4),
    st.lists(st.sampled_from(ANSWERS), max_size=4),
    st.integers(1, 120),
)


@settings(max_examples=heavy(40))
@given(st.lists(life, min_size=1, max_size=3), st.integers(0, 3000))
def test_no_mix_of_signals_answers_and_deaths_executes_twice(lives: list[Any], lag_ms: int) -> None:
    """Signal ids are reused across lives and channels: each may be sent once, and gets one final result."""
    run_simulated(_any_mix(lives, lag_ms))


async def _any_mix(lives: list[Any], lag_ms: int) -> None:
    sent: dict[str, dict[str, Any]] = {}
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, terminal = Path(name), a_terminal()
        terminal.lag_ms = lag_ms
        offset = 0
        for signals, answers, died in lives:
            terminal.script(*answers)

            async def work(kit: FlowKit, signals: Any = signals) -> None:
                nonlocal offset
                for number, template, frame in signals:
                    fields = sent.setdefault(f"s{number}", template) | {"signal_id": f"s{number}"}
                    offset += 1
                    if frame:
                        await kit.send_frame(**fields)
                    else:
                        await kit.send(**fields, record={"offset": offset})

            await live(folder, terminal, Crash(died), work)
            terminal.fill_late()
        async with FlowKit.open(folder, terminal=terminal) as kit:
            await kit.idle()
            await asyncio.sleep(6)
            await kit.book.refresh()
            await _check(kit, sent)


async def _check(kit: FlowKit, sent: dict[str, dict[str, Any]]) -> None:
    magics = [r.magic for r in kit.terminal.sent]
    intents = await kit.journal.intents_by_magic(magics)
    for key, fields in sent.items():
        row = (await kit.journal.seen([key])).get(key)
        if row is None:
            continue  # the process died before the signal was durable
        results = await finals(kit, key)
        assert len(results) == 1, (key, fields, results)
        mine = [r for r in kit.terminal.sent if r.magic in intents and intents[r.magic].key == key]
        openings = [r for r in mine if r.deed in (Deed.DEAL, Deed.PENDING) and not r.position]
        # Requotes are sent again; what was executed carries the magic once.
        assert len({r.magic for r in openings}) <= 1
        opened = {d.order for d in kit.terminal.deals if d.magic in {r.magic for r in openings} and d.entry == 0}
        assert len(opened) <= 1, (key, opened)
    assert not kit.book.in_flight()
    assert not kit.desk.unresolved
