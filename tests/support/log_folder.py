"""The log on a folder of a test's own."""

import json
from pathlib import Path
from typing import Any

from mt5_bridge.log import Logs, open_log
from mt5_bridge.settings import Settings


class LogFolder:
    """Opens the log on a folder and reads what came of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[Logs] = []

    def open(self, *, console: int | None = None, **settings: Any) -> Logs:
        logs = open_log(Settings(data_dir=self.path, **settings), console=console)
        self.opened.append(logs)
        return logs

    @property
    def human(self) -> str:
        return (self.path / "mt5_bridge.log").read_text(encoding="utf-8")

    @property
    def machine(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.path / "mt5_bridge.jsonl").read_bytes().splitlines()]
