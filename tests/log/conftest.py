"""The log on a folder of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.log_folder import LogFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[LogFolder]:
    logs = LogFolder(tmp_path)
    yield logs
    for opened in logs.opened:
        opened.close()
