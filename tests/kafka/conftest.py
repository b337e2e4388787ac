"""What the tests on real brokers share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from loguru import logger

from mt5_bridge.redpanda import quiet_library

if TYPE_CHECKING:
    from loguru import Message


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What a person is told: warnings and worse of the bridge's log."""
    found: list[str] = []

    def take(message: "Message") -> None:
        found.append(message.record["message"])

    handler = logger.add(take, level="WARNING")
    with quiet_library():
        yield found
    logger.remove(handler)
