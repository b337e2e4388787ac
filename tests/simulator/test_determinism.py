"""Same seed, ticks and calls: the same books, byte for byte, in any process, and however often somebody looks."""

import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.properties import heavy

import mt5_bridge.simulator as mt5
from mt5_bridge.simulator.market.clock import MANUAL_START_MSC, ManualClock

ALWAYS = (0, 2**31 - 1)
SYMBOLS = ("GBPUSD", "EURJPY", "GBPJPY", "AUDUSD", "USDCAD", "XAUUSD")
"""Walks: a recording moves less, and their profit converts at the prices of others."""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    mt5.uninstall()


# In any process.

BUSY = """
    import hashlib, sys
    import mt5_bridge.simulator as mt5

    market = mt5.install(clock="manual", seed=11, leverage=500, speed=5, PAPER_MARGIN_MODE=sys.argv[1])
    assert mt5.initialize()
    digest = hashlib.sha256()
    symbols = [symbol.name for symbol in mt5.symbols_get()]
    for symbol in symbols:
        mt5.symbol_select(symbol)
    for step in range(150):
        symbol = symbols[step * 7 % len(symbols)]
        tick = mt5.symbol_info_tick(symbol)
        filling = 1 if symbol == "US500" else 0
        request = {"action": 1, "symbol": symbol, "volume": 0.1 * (1 + step % 3), "type": step % 2,
                   "type_filling": filling, "magic": step, "comment": "step %d" % step}
        if step % 4 == 1:
            kind = 2 + step // 4 % 4
            away = 0.9995 if kind in (2, 5) else 1.0005
            request |= {"action": 5, "type": kind, "price": (tick.bid if kind in (2, 5) else tick.ask) * away}
        elif step % 5 == 2 and mt5.positions_total():
            held = mt5.positions_get()[step % mt5.positions_total()]
            request |= {"symbol": held.symbol, "type": 1 - held.type, "volume": held.volume, "position": held.ticket,
                        "type_filling": 1 if held.symbol == "US500" else 0}
        digest.update(repr(mt5.order_send(request)).encode())
        digest.update(mt5.copy_ticks_from(symbol, tick.time - 60, 50, -1).tobytes())
        market.advance(17.123)
    for seen in (mt5.history_deals_get(0, 2**31 - 1), mt5.history_orders_get(0, 2**31 - 1), mt5.positions_get(),
                 mt5.orders_get(), mt5.account_info(), mt5.symbols_get()):
        digest.update(repr(seen).encode())
    print(digest.hexdigest(), mt5.history_deals_total(0, 2**31 - 1), mt5.positions_total())
"""


@pytest.mark.parametrize("mode", ["hedging", "netting"])
def test_every_process_comes_to_the_same_bytes(mode: str) -> None:
    runs = []
    for seed in ("0", "1", "random"):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed}
        code = [sys.executable, "-c", textwrap.dedent(BUSY), mode]
        runs.append(subprocess.Popen(code, stdout=subprocess.PIPE, text=True, env=environment))
    said = [run.communicate(timeout=50)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert len(set(said)) == 1
    assert int(said[0].split()[1]) > 60


# However often somebody looks.


class Step(NamedTuple):
    """An order, and how long it is left alone afterwards: in pieces, if somebody looks meanwhile."""

    symbol: str
    kind: int
    lots: int
    away: float
    seconds: float
    pieces: int
    look: int


steps = st.builds(
    Step,
    symbol=st.sampled_from(SYMBOLS),
    kind=st.integers(0, 7),
    lots=st.integers(1, 200),
    away=st.sampled_from([0.0, 0.0003, 0.001]),
    seconds=st.sampled_from([0.05, 3.0, 60.0, 400.0, 1500.0]),
    pieces=st.integers(1, 9),
    look=st.integers(0, 8),
)


def order(step: Step) -> None:
    """Places the step's order at distances from its price, and changes or closes what is there before."""
    tick = mt5.symbol_info_tick(step.symbol)
    below = step.kind in (2, 5, 7)
    price = tick.bid * (1 - step.away) if below else tick.ask * (1 + step.away)
    request: dict[str, Any] = {
        "action": 5 if step.kind > 1 else 1, "symbol": step.symbol, "type": step.kind, "volume": step.lots / 100,
        "price": price, "stoplimit": price * (1.0002 if below else 0.9998) if step.kind > 5 else 0.0,
    }  # fmt: skip
    if step.away:
        sign = 1 - 2 * (step.kind % 2)
        request |= {"sl": price * (1 - sign * step.away * 2), "tp": price * (1 + sign * step.away * 3)}
    if step.kind == 2:
        request |= {"type_time": 2, "expiration": tick.time + 200}
    mt5.order_send(request)


def run(plan: list[Step], folder: Path | None, between: Callable[[Step, int], bool], **options: Any) -> Any:
    """The books after the plan. `between` looks, and says whether to start anew."""
    if folder is not None:
        options["DATA_DIR"] = folder
    now = MANUAL_START_MSC
    market = start(now, options)
    for step in plan:
        order(step)
        until = now + round(step.seconds * 1000)
        for piece in range(1, step.pieces + 1):
            last = piece == step.pieces
            moment = until if last else now + (until - now) * piece // step.pieces
            if not last and between(step, piece):
                market = start(moment, options)
            elif last or step.look:
                market.advance((moment - market.now()) / 1000)
        now = until
    assert market.now() == now
    return (
        mt5.account_info(), mt5.history_deals_get(*ALWAYS), mt5.history_orders_get(*ALWAYS), mt5.positions_get(),
        mt5.orders_get(),
    )  # fmt: skip


def start(moment: int, options: dict[str, Any]) -> mt5.MarketControl:
    market = mt5.install(clock=ManualClock(moment), **options)
    assert mt5.initialize(), mt5.last_error()
    for symbol in SYMBOLS:
        assert mt5.symbol_select(symbol)
    return market


LOOKS: tuple[Callable[[str], object], ...] = (
    lambda symbol: mt5.positions_get(),
    lambda symbol: mt5.account_info(),
    lambda symbol: mt5.symbol_info(symbol),
    lambda symbol: mt5.copy_rates_from_pos(symbol, mt5.TIMEFRAME_M1, 0, 10),
    lambda symbol: mt5.copy_ticks_from(symbol, 0, 10, -1),
    lambda symbol: mt5.history_deals_get(*ALWAYS),
    lambda symbol: mt5.order_check({"action": 1, "symbol": symbol, "volume": 0.1, "type": 0}),
    lambda symbol: mt5.order_calc_margin(0, symbol, 0.1, 1.0),
)


@pytest.mark.parametrize("mode", ["hedging", "netting"])
@settings(max_examples=heavy(8))
@given(
    plan=st.lists(steps, min_size=2, max_size=8),
    seed=st.integers(0, 3),
    currency=st.sampled_from(["USD", "JPY", "EUR"]),
)
def test_who_looks_changes_nothing(mode: str, plan: list[Step], seed: int, currency: str) -> None:
    options = {
        "seed": seed, "currency": currency, "margin_mode": mode, "leverage": 500, "speed": 10,
        "balance": 60_000 if currency == "JPY" else 600,
    }  # fmt: skip

    def look(step: Step, _: int) -> bool:
        if step.look:
            LOOKS[step.look - 1](step.symbol)
        return False

    def restart(step: Step, piece: int) -> bool:
        return (piece + step.look) % 3 == 0

    blind = run([step._replace(pieces=1) for step in plan], None, look, **options)
    assert run(plan, None, look, **options) == blind
    with tempfile.TemporaryDirectory() as folder:
        assert run(plan, Path(folder), restart, **options) == blind
        mt5.uninstall()


def test_a_stop_out_happens_at_the_tick_of_a_rate_seen_or_unseen() -> None:
    """The yen that an EURJPY loses are worth a stop-out for one second, in which nothing is held and nobody looks."""
    market = mt5.install(clock="manual", leverage=500, balance=400)
    assert mt5.initialize()
    for symbol, bid in (("EURUSD", 1.1), ("USDJPY", 100.0), ("EURJPY", 110.0)):
        mt5.symbol_select(symbol)
        market.tick(symbol, bid, bid)
    assert mt5.order_send({"action": 1, "symbol": "EURJPY", "type": 0, "volume": 1.0}).retcode == 10009
    market.tick("EURJPY", 109.75, 109.75)
    assert mt5.positions_total() == 1
    clock = market.terminal.clock
    assert isinstance(clock, ManualClock)
    clock.advance(10)
    fell = market.now()
    market.market.hand_tick("USDJPY", 70.0, 70.0)
    clock.advance(1)
    market.market.hand_tick("USDJPY", 100.0, 100.0)
    clock.advance(10)
    market.terminal.session.engine.wake("USDJPY")
    assert mt5.positions_total() == 0
    deal = mt5.history_deals_get(*ALWAYS)[-1]
    assert (deal.reason, deal.time_msc) == (mt5.DEAL_REASON_SO, market.market.server_time(fell))
