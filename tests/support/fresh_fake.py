"""A fresh copy of the fake `MetaTrader5` module, in this process."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

FAKE_PATH = str(Path(__file__).parent)
"""For `TerminalConfig.python_path`: where a host finds the backend `fake_mt5`."""


class FakeModule(ModuleType):
    """What a test changes in the fake."""

    _sent: list[dict[str, object]]
    _ticks: dict[str, list[tuple[int, float, float]]]
    _calls: dict[str, int]
    symbol_info_tick: Callable[[str], Any]
    positions_get: Callable[..., Any]


def fresh_fake(**settings: str) -> FakeModule:
    """A module of its own state, configured."""
    spec = importlib.util.spec_from_file_location("fake_mt5", Path(__file__).parent / "fake_mt5.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.configure(settings)
    module.initialize()
    return cast(FakeModule, module)
