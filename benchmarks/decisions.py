"""What a decision costs: the facts put together and the whole chain of guards asked, every limit on."""

import gc
import time
from collections.abc import Iterator

import msgspec

from benchmarks.figures import Figure, Section, percentile
from mt5_bridge.core.decision import Approval, Context, Day, Exposure, Limits, Readiness
from mt5_bridge.core.guards import evaluate
from mt5_bridge.core.halt import Halt
from mt5_bridge.core.messages import TradingSignal
from mt5_bridge.core.model import (
    AccountInfo,
    Action,
    AssetClass,
    Execution,
    MarginMode,
    Position,
    Quote,
    Side,
    SymbolInfo,
    TradeMode,
)

NOW = 1_700_000_000_000
HELD = 10
METHOD = f"""\
In one process, nothing but the decision: a `Context` made of ready facts, as for each signal, and the chain asked;
every limit is switched on and none is reached, so that no guard is left out. {HELD} positions are open and two orders
in flight. The loss and the margin of a lot come from the terminal and are no part of it."""

LIMITS = Limits(
    trading_enabled=True,
    account=1001,
    max_drawdown_pct=20,
    max_open_risk_pct=50,
    min_margin_level_pct=100,
    price_collar_pct=2,
    max_simultaneous_trades=50,
    max_positions_per_symbol=50,
    max_positions_by_class={AssetClass.FOREX: 50},
    max_daily_trades=100,
    max_spread_points=50,
    max_drift_points=50,
)
ACCOUNT = AccountInfo(
    login=1001, server="Paper-Demo", currency="USD", leverage=100, balance=100_000.0, equity=100_000.0, margin=1000.0,
    free_margin=99_000.0, margin_level=10_000.0, profit=0.0, margin_mode=MarginMode.HEDGING, trade_allowed=True,
)  # fmt: skip
SYMBOL = SymbolInfo(
    name="EURUSD", digits=5, point=0.00001, tick_size=0.00001, tick_value=1.0, contract_size=100_000.0, volume_min=0.01,
    volume_max=100.0, volume_step=0.01, stops_level=0, freeze_level=0, trade_mode=TradeMode.FULL,
    execution=Execution.MARKET, filling_bits=1, currency_base="EUR", currency_profit="USD",
)  # fmt: skip
POSITIONS = tuple(
    Position(
        ticket=n, symbol=("EURUSD", "GBPUSD", "USDJPY")[n % 3], side=Side.BUY, volume=0.1, price_open=1.1,
        price_current=1.1, stop_loss=1.09, take_profit=0.0, swap=0.0, profit=0.0, time_msc=NOW, magic=n, comment="",
    )
    for n in range(HELD)
)  # fmt: skip
FACTS = {
    "now_msc": NOW,
    "created_msc": NOW - 3,
    "limits": LIMITS,
    "halt": Halt(),
    "readiness": Readiness(
        reconciled=True, connected=True, terminal_trade_allowed=True, account_trade_allowed=True, journal_healthy=True
    ),
    "account": ACCOUNT,
    "symbol": SYMBOL,
    "quote": Quote("EURUSD", 1.1, 1.1001, 0.0, 0.0, NOW),
    "positions": POSITIONS,
    "in_flight": tuple(
        Exposure(magic=n, symbol="EURUSD", side=Side.BUY, volume=0.1, risk=10.0, margin=100.0) for n in (100, 101)
    ),
    "day": Day(date="2023-11-14", start_equity=100_000.0, trades=3, peak_equity=101_000.0, balance=100_000.0),
    "loss_per_lot": 1000.0,
    "margin_per_lot": 1100.0,
    "risk_by_position": dict.fromkeys(range(HELD), 10.0),
    "classes": dict.fromkeys(("EURUSD", "GBPUSD", "USDJPY"), AssetClass.FOREX),
}
SIGNALS = {
    "BUY with its volume": TradingSignal(symbol="EURUSD", action=Action.BUY, volume=0.1, stop_loss=1.09),
    "BUY sized from the risk": TradingSignal(symbol="EURUSD", action=Action.BUY, risk_percent=1.0, stop_loss=1.09),
    "BUY_LIMIT": TradingSignal(symbol="EURUSD", action=Action.BUY_LIMIT, price=1.095, volume=0.1, stop_loss=1.09),
    "MODIFY that loosens a stop": TradingSignal(symbol="EURUSD", action=Action.MODIFY, position=3, stop_loss=1.08),
    "CLOSE": TradingSignal(symbol="EURUSD", action=Action.CLOSE, position=3),
}


async def run(scale: float) -> Section:
    """Measure. `scale` 1.0 is 50,000 decisions of each kind."""
    return Section("A decision", METHOD, tuple(_figures(max(500, int(50_000 * scale)))))


def _figures(count: int) -> Iterator[Figure]:
    for name, signal in SIGNALS.items():
        times = _times(signal, count)
        yield Figure(f"{name}, p50", percentile(times, 50), "µs", 30)
        yield Figure(f"{name}, p99", percentile(times, 99), "µs")


def _times(signal: TradingSignal, count: int) -> list[float]:
    facts = {**FACTS, "target": None if signal.action.opens else POSITIONS[3]}
    decision = evaluate(Context(signal=signal, **facts))  # type: ignore[arg-type]  # the facts are those of a Context
    assert isinstance(decision, Approval), msgspec.json.encode(decision)
    times: list[float] = []
    gc.collect()
    for _ in range(count):
        began = time.perf_counter()
        evaluate(Context(signal=signal, **facts))  # type: ignore[arg-type]
        times.append((time.perf_counter() - began) * 1e6)
    return times
