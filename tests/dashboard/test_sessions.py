"""Logging in and out."""

from typing import Any

import pytest

from mt5_bridge.dashboard import sessions as module
from mt5_bridge.dashboard.sessions import Sessions

URL = "ws://127.0.0.1:9/none"


async def only_t(token: str) -> object:
    if token != "t":
        raise PermissionError("no")
    return {}


async def test_a_token_opens_a_session_and_two_share_a_stream() -> None:
    sessions = Sessions(URL, only_t)
    one, two = await sessions.log_in("t", "ann"), await sessions.log_in("t", "bob")
    assert sessions.of(one.key) is one
    assert one.feed is two.feed
    assert one.key != two.key
    await sessions.log_out(one.key)
    assert sessions.of(one.key) is None
    assert sessions.of(two.key) is two
    await sessions.close()
    assert sessions.of(two.key) is None
    assert sessions.of(None) is None


async def test_wrong_tokens_are_counted() -> None:
    sessions = Sessions(URL, only_t)
    for _ in range(module.TRIES):
        with pytest.raises(PermissionError, match="no"):
            await sessions.log_in("x", "eve")
    with pytest.raises(PermissionError, match="too many"):
        await sessions.log_in("t", "eve")


async def test_the_entry_code_stands_for_the_token_and_an_empty_one_for_nothing() -> None:
    sessions = Sessions(URL, only_t, "t")
    assert (await sessions.log_in(sessions.entry_code, "ann")).token == "t"
    await sessions.close()
    without = Sessions(URL, only_t)
    with pytest.raises(PermissionError):
        await without.log_in(without.entry_code, "eve")


async def test_sessions_end(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions(URL, only_t)
    old = await sessions.log_in("t", "ann")
    monkeypatch.setattr(module, "LIFETIME_S", -1.0)
    assert sessions.of(old.key) is None
    monkeypatch.setattr(module, "LIFETIME_S", 1000.0)
    monkeypatch.setattr(module, "MOST", 1)
    new: Any = await sessions.log_in("t", "bob")
    assert sessions.of(old.key) is None
    assert sessions.of(new.key) is new
    await sessions.close()
