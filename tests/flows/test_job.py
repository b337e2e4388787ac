import asyncio
from typing import Any

import pytest
from support.simulated import simulated

from mt5_bridge.core.errors import JournalError
from mt5_bridge.core.messages import Status, TradingSignal
from mt5_bridge.core.model import Action, Deed, OrderRequest, TradeResult
from mt5_bridge.flows.job import COMMAND, Job, payload_of, result, signal_from


def a_job(source: str = "redpanda", **fields: Any) -> Job:
    base: dict[str, Any] = {"symbol": "EURUSD", "action": Action.BUY, "volume": 0.1}
    signal = TradingSignal(**(base | fields))
    return Job("k1", signal, 1000, 900, source)


@pytest.mark.parametrize(("ttl", "deadline"), [(None, 5900), (1000, 1900), (60_000, 5900)])
@simulated
async def test_its_time_is_the_smaller_of_ttl_and_setting(ttl: int | None, deadline: int) -> None:
    assert a_job(ttl_ms=ttl).deadline_msc(5000) == deadline


@simulated
async def test_a_signal_survives_the_inbox() -> None:
    signal = TradingSignal(symbol="EURUSD", action=Action.SELL, created_at="2026-01-01T00:00:00Z", risk_percent=0.5)
    assert signal_from(payload_of(signal)) == signal


@simulated
async def test_a_result_says_what_was_asked_sent_and_answered() -> None:
    job = a_job(strategy="trend", comment="hi")
    job.sent_msc, job.attempts = 1100, 2
    request = OrderRequest(deed=Deed.DEAL, symbol="EURUSD", volume=0.05, stop_loss=1.09, magic=7, position=3)
    answer = TradeResult(retcode=10009, deal=5, order=6, volume=0.05, price=1.1)
    made = result(job, Status.FILLED, now_msc=1250, request=request, answer=answer)
    assert (made.signal_id, made.volume_requested, made.stop_loss, made.magic) == ("k1", 0.05, 1.09, 7)
    assert (made.order, made.deal, made.position, made.price) == (6, 5, 3, 1.1)
    assert (made.latency_ms, made.attempts, made.strategy) == (250.0, 2, "trend")
    assert made.sent_at == "1970-01-01T00:00:01.100Z"
    bare = result(job, Status.DENIED, now_msc=1250)
    assert (bare.volume_requested, bare.retcode, bare.magic, bare.comment) == (0.1, None, None, "hi")


@simulated
async def test_what_only_waits_has_the_price_it_waits_at() -> None:
    request = OrderRequest(deed=Deed.PENDING, symbol="EURUSD", volume=0.05, price=1.09)
    answer = TradeResult(retcode=10009, order=6, volume=0.05, bid=1.1, ask=1.1001)
    for status, price in ((Status.PLACED, 1.09), (Status.MODIFIED, 1.09), (Status.REJECTED, None)):
        assert result(a_job(), status, now_msc=1250, request=request, answer=answer).price == price
    protecting = OrderRequest(deed=Deed.SLTP, symbol="EURUSD", position=3, stop_loss=1.09)
    assert result(a_job(), Status.MODIFIED, now_msc=1250, request=protecting, answer=answer).price is None


@simulated
async def test_a_command_has_no_signal_id() -> None:
    assert a_job(COMMAND).signal_id is None


@simulated
async def test_it_is_entered_when_its_row_is_durable() -> None:
    job = a_job()
    assert job.entered
    job.admitted = asyncio.get_running_loop().create_future()
    assert not job.entered
    job.admitted.set_exception(JournalError("full"))
    assert not job.entered
    job.admitted = asyncio.get_running_loop().create_future()
    job.admitted.set_result(None)
    assert job.entered
    job.admitted = asyncio.get_running_loop().create_future()
    job.admitted.cancel()
    assert not job.entered
