"""One life of a producer: what was asked of it does not outlive it."""

import asyncio

import pytest
from support.broker import MockBroker

from mt5_bridge.redpanda import RedpandaConfig
from mt5_bridge.redpanda.security import client_options
from mt5_bridge.redpanda.session import ProducerSession, SessionEndedError

UNKNOWN_TOPIC = 3


async def test_who_asks_for_a_topic_is_told_of_the_end(mock_broker: MockBroker) -> None:
    mock_broker.topic_error("later", UNKNOWN_TOPIC)
    session = ProducerSession(client_options(RedpandaConfig(bootstrap=mock_broker.bootstrap)), 10_000)
    await session.start(10.0)
    asked = asyncio.create_task(session.partition("later", b"k", 60.0))
    await session.alive(10.0)
    await session.bury()
    with pytest.raises(SessionEndedError, match="later"):
        await asyncio.wait_for(asked, 10.0)
    await session.bury()
