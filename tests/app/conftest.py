"""Fixtures of the tests that run a bridge in their own process."""

from collections.abc import AsyncIterator

import pytest
from support.backend import Backend
from support.broker import bootstrap, mock_broker

__all__ = ["bootstrap", "mock_broker"]


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend that hears the bridge."""
    async with Backend() as backend:
        yield backend
