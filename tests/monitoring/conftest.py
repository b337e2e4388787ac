"""Prometheus itself: PROMETHEUS names the folder with `prometheus` and `promtool`; none: they are on the PATH."""

import os
import shutil
from pathlib import Path

import pytest
from support.broker import bootstrap

__all__ = ["bootstrap"]


def _program(name: str) -> Path:
    found = shutil.which(name, path=os.environ.get("PROMETHEUS") or None)
    assert found, f"{name} is missing: install Debian's package prometheus"
    return Path(found)


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The tool that judges configurations, rules and metrics."""
    return _program("promtool")


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The server."""
    return _program("prometheus")
