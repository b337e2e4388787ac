"""A journal in a folder of the test's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mt5_bridge.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    opened = await Journal.open(path)
    yield opened
    await opened.close()
