from pathlib import Path
from typing import Any, cast

import pytest
from support.flow_kit import FakeProducer

from mt5_bridge.app import broker as module
from mt5_bridge.app.broker import BrokerSide
from mt5_bridge.core.errors import BrokerError
from mt5_bridge.settings import load


def made(folder: Path, **env: str) -> BrokerSide:
    told = load(env={"TERMINAL": "paper", "DATA_DIR": str(folder), **env}, cwd=folder).settings
    side = BrokerSide(told, lambda state, detail: None)
    side.producer = cast(Any, FakeProducer())
    return side


async def test_topics_are_left_alone_where_that_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def ensure(*args: Any) -> None:
        asked.append(args)

    monkeypatch.setattr("mt5_bridge.redpanda.topics.ensure_topics", ensure)
    await made(tmp_path, REDPANDA_CREATE_TOPICS="false").keep_topics()
    assert asked == []


async def test_topics_are_asked_for_until_they_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOPIC_RETRY_S", 0.01)
    tried: list[int] = []

    async def ensure(*args: Any) -> None:
        tried.append(1)
        if len(tried) < 4:
            raise BrokerError("no controller") if len(tried) < 3 else TimeoutError

    monkeypatch.setattr("mt5_bridge.redpanda.topics.ensure_topics", ensure)
    await made(tmp_path)._make_topics()
    assert len(tried) == 4


def test_nothing_is_told_of_a_broker_that_is_away(tmp_path: Path) -> None:
    side = made(tmp_path)
    fake = cast(FakeProducer, side.producer)
    fake.refusing = ("tick_data",)
    assert side.troubles() == ["topic tick_data takes nothing"]
    fake.connected = False
    assert side.troubles() == []
