"""Fixtures of the tests that start the daemon as its user does."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.broker import bootstrap, mock_broker
from support.world import MakeWorld, World, world

__all__ = ["bootstrap", "mock_broker"]


@pytest.fixture
def new_world(bootstrap: str, tmp_path: Path) -> MakeWorld:
    """Makes worlds of the test's own on the shared broker."""

    def make(**options: Any) -> AbstractAsyncContextManager[World]:
        return world(**{"folder": tmp_path, "bootstrap": bootstrap, **options})

    return make


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """A running daemon for all tests of a module; each uses signal ids of its own and leaves no position behind."""
    async with world(tmp_path_factory.mktemp("shared"), bootstrap) as made:
        await made.start()
        yield made
        await made.daemon.stop()
