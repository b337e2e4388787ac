"""Fixtures of the tests that run a bridge in their own process."""

from collections.abc import AsyncIterator

import pytest
from support.backend import Backend
from support.broker import bootstrap

__all__ = ["bootstrap"]


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    """A backend that hears the bridge."""
    async with Backend() as backend:
        yield backend
