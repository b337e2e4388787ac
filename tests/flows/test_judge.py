from pathlib import Path
from typing import Any

import pytest
from support.fake_terminal import symbol_info
from support.flow_kit import FlowKit
from support.simulated import simulated

from mt5_bridge.core.decision import Approval, Denial
from mt5_bridge.core.errors import MT5AuthError, MT5ConnectionError, MT5DataError
from mt5_bridge.core.halt import HaltState
from mt5_bridge.core.messages import Reason, TradingSignal
from mt5_bridge.core.model import Action, SymbolInfo
from mt5_bridge.flows.job import Job
from mt5_bridge.flows.judge import unavailable


def a_job(
    kit: FlowKit,
    action: Action = Action.BUY,
    *,
    age_ms: int = 0,
    person: bool = False,
    key: str = "k",
    **fields: Any,
) -> Job:
    base: dict[str, Any] = {"symbol": "EURUSD", "volume": 0.1}
    if action.opens:
        base["stop_loss"] = 1.095
    now = kit.clock.now_ms()
    return Job(key, TradingSignal(action=action, **(base | fields)), now, now - age_ms, "redpanda", person=person)


def code(decision: Any) -> Reason | None:
    return decision.code if isinstance(decision, Denial) else None


@simulated
async def test_what_needs_no_terminal_is_denied_early(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        early = kit.judge.early
        assert early(a_job(kit)) is None
        assert code(early(a_job(kit, age_ms=5001))) is Reason.STALE
        assert code(early(a_job(kit, age_ms=-2001))) is Reason.FROM_FUTURE
        kit.limit(trading_enabled=False)
        assert code(early(a_job(kit))) is Reason.TRADING_DISABLED
        kit.limit(trading_enabled=True)
        kit.halt(HaltState.REDUCING)
        assert code(early(a_job(kit))) is Reason.REDUCING
        assert early(a_job(kit, Action.MODIFY, position=1, stop_loss=1.0)) is None
        assert early(a_job(kit, Action.CLOSE)) is None
        kit.halt()
        assert code(early(a_job(kit, Action.CLOSE))) is Reason.HALTED
        assert kit.judge.denials == {
            "stale": 1, "from_future": 1, "trading_disabled": 1, "reducing": 1, "halted": 1,
        }  # fmt: skip


@simulated
async def test_early_denials_need_no_account(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, ready=False, reconcile=False, limits={"trading_enabled": False}) as kit:
        assert code(kit.judge.early(a_job(kit))) is Reason.TRADING_DISABLED


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MT5DataError("unknown", code=-4), Reason.UNKNOWN_SYMBOL),
        (MT5DataError("None", code=-10001), Reason.NOT_READY),
        (MT5ConnectionError("away"), Reason.NOT_READY),
        (MT5AuthError("another account answers"), Reason.ACCOUNT_MISMATCH),
    ],
)
@simulated
async def test_symbols_that_cannot_be_had(tmp_path: Path, error: Any, expected: Reason) -> None:
    async with FlowKit.open(tmp_path) as kit:
        kit.terminal.failures["resolve_symbol"] = error
        assert code(await kit.judge.symbol("EURUSD")) is expected
        del kit.terminal.failures["resolve_symbol"]
        kit.terminal.failures["get_symbol"] = error
        assert code(await kit.judge.symbol("EURUSD")) is expected
        del kit.terminal.failures["get_symbol"]
        assert isinstance(await kit.judge.symbol("EURUSD"), SymbolInfo)


@simulated
async def test_facts_are_noted(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        symbol = symbol_info()
        facts = await kit.judge.facts(a_job(kit), symbol)
        assert not isinstance(facts, Denial)
        assert kit.book.account is facts.account
        decision = await kit.judge.opening(a_job(kit), symbol, facts)
        assert isinstance(decision, Approval)
        assert (decision.volume, round(decision.risk, 6)) == (0.1, 51.0)
        kit.terminal.failures["quote_for_order"] = MT5DataError("no tick")
        assert code(await kit.judge.facts(a_job(kit), symbol)) is Reason.NO_QUOTE
        kit.terminal.failures["quote_for_order"] = MT5ConnectionError("away")
        assert code(await kit.judge.facts(a_job(kit), symbol)) is Reason.NOT_READY


@simulated
async def test_open_risk_is_asked_for_where_it_is_limited(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"max_open_risk_pct": 0.1}) as kit:
        symbol = symbol_info()
        facts = await kit.judge.facts(a_job(kit), symbol)
        assert not isinstance(facts, Denial)
        assert code(await kit.judge.opening(a_job(kit), symbol, facts)) is Reason.OPEN_RISK


@simulated
async def test_the_last_word_judges_age_and_halt(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path) as kit:
        assert kit.judge.last_word(a_job(kit)) is None
        stale = kit.judge.last_word(a_job(kit, age_ms=101, ttl_ms=100))
        assert stale is not None
        assert (stale.code, stale.limit, stale.value) == (Reason.STALE, 100.0, 101.0)
        kit.halt()
        assert code(kit.judge.last_word(a_job(kit))) is Reason.HALTED
        assert code(kit.judge.last_word(a_job(kit, Action.CLOSE))) is Reason.HALTED
        assert kit.judge.last_word(a_job(kit, Action.CLOSE, person=True)) is None


@simulated
async def test_distinct_signals_count_to_the_latch(tmp_path: Path) -> None:
    async with FlowKit.open(tmp_path, limits={"throttle_latch": 3}) as kit:
        for key in ("a", "a", "b", "b"):
            kit.judge.throttled(a_job(kit, key=key))
        assert kit.latch.halt.state == "active"
        assert kit.judge.throttled(a_job(kit, key="c")).code is Reason.THROTTLED
        assert kit.latch.halt.state == "reducing"


def test_another_account_is_told_apart() -> None:
    assert unavailable(MT5AuthError("x")).code is Reason.ACCOUNT_MISMATCH
    assert unavailable(MT5ConnectionError("x")).code is Reason.NOT_READY
