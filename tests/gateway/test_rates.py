"""How many requests somebody may make."""

import asyncio

import pytest

from mt5_bridge.gateway import rates as module
from mt5_bridge.gateway.problems import Problem
from mt5_bridge.gateway.rates import BAD_TOKENS_A_MINUTE, Rates


async def taken(rates: Rates, subject: str, times: int) -> int:
    """How many of so many requests are let through."""
    answers = await asyncio.gather(*(rates.take(subject) for _ in range(times)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Problem)]
    for problem in refused:
        assert (problem.status, problem.code) == (429, "rate_limited")
        assert 0 < int((problem.headers or {})["Retry-After"]) == problem.more["retry_after_s"]
    return times - len(refused)


async def test_each_has_as_many_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000_020.0
    monkeypatch.setattr("time.time", lambda: now)
    rates = Rates(10)
    assert [await taken(rates, subject, 15) for subject in ("ann", "bob")] == [10, 10]
    now += 60
    assert await taken(rates, "ann", 15) < 10, "the window slides: no double portion at its border"
    now += 180
    assert await taken(rates, "ann", 15) == 10


async def test_many_strangers_are_forgotten_before_they_cost_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ADDRESSES", 50)
    rates = Rates(10)
    for number in range(500):
        await rates.bad_token(f"10.0.{number // 250}.{number % 250}")
    assert len(rates._addresses.storage) <= 50
    for _ in range(BAD_TOKENS_A_MINUTE):
        await rates.bad_token("10.1.0.1")
    with pytest.raises(Problem, match="more than 60 requests a minute"):
        await rates.bad_token("10.1.0.1")
    assert await taken(rates, "ann", 1) == 1
