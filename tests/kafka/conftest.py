"""A real broker for all tests of this folder, worlds of the bridge on it, and what a person is told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.eventually import eventually
from support.kafka import KafkaBroker
from support.logged import logged
from support.world import MakeWorld, World, world

from mt5_bridge.redpanda import quiet_library


@pytest.fixture(scope="session")
def one_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest_asyncio.fixture
async def broker(one_broker: KafkaBroker) -> AsyncIterator[KafkaBroker]:
    """The shared broker, to be hurt at will: it runs, without bounds, when a test begins. Use topics of `new_world`."""
    if not one_broker.runs:
        one_broker.kill()  # what is left of one that ended by itself
        await asyncio.to_thread(one_broker.start)
    yield one_broker
    if one_broker.runs:
        one_broker.resume()
        for client in (None, "e2e"):
            one_broker.throttle(client=client)


@pytest_asyncio.fixture(autouse=True)
async def goodbyes() -> AsyncIterator[None]:
    """A connection with TLS is closed when both sides have said so: the loop of a test ends no sooner."""
    yield
    transports: Any = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]
    with suppress(AssertionError):  # a broker that does not run any more says nothing
        await eventually(lambda: all(each._sock is None for each in transports.values()))


@pytest.fixture
def new_world(broker: KafkaBroker, tmp_path: Path) -> MakeWorld:
    """Makes worlds whose topics the bridge makes itself."""

    def make(**options: Any) -> AbstractAsyncContextManager[World]:
        return world(**{"folder": tmp_path, "bootstrap": broker.bootstrap, "make_topics": False, **options})

    return make


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What a person is told: warnings and worse of the bridge's log."""
    with logged(level="WARNING") as found, quiet_library():
        yield found
