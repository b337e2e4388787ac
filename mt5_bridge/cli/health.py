"""Looks at this machine: enough room to run, and whether a terminal runs. For people, scripts and `doctor`."""

import sys
from pathlib import Path
from typing import Any

import psutil

TERMINAL_PROGRAMS = frozenset({"terminal64.exe", "terminal.exe"})
MEMORY_LIMIT_PCT = 90.0
CPU_LIMIT_PCT = 95.0
DISK_LEAST_BYTES = 500 * 2**20


class HealthChecker:
    """Checks of the machine the bridge runs on.

    Args:
        folder: whose disk is looked at; None: the current folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = _existing(folder or Path.cwd())

    def check_system_resources(self) -> dict[str, Any]:
        """CPU, memory and disk in percent, free bytes, `status` (ok or warning) and `warnings` in words."""
        memory = psutil.virtual_memory()
        disk = psutil.disk_usage(str(self._folder))
        cpu = psutil.cpu_percent(interval=0.1)
        warnings = []
        if cpu > CPU_LIMIT_PCT:
            warnings.append(f"CPU is {cpu:.0f} % busy")
        if memory.percent > MEMORY_LIMIT_PCT:
            warnings.append(f"memory is {memory.percent:.0f} % used")
        if disk.free < DISK_LEAST_BYTES:
            warnings.append(f"only {disk.free // 2**20} MiB are free on the disk of {self._folder}")
        return {
            "status": "warning" if warnings else "ok",
            "cpu_percent": cpu,
            "memory_percent": memory.percent,
            "memory_available": memory.available,
            "disk_percent": disk.percent,
            "disk_free": disk.free,
            "warnings": warnings,
        }

    def check_mt5_process(self) -> bool:
        """True when a MetaTrader 5 terminal runs on this machine."""
        return any(name.lower() in TERMINAL_PROGRAMS for name in _process_names())


def validate_mt5_path(path: str | Path | None) -> bool:
    """Whether `path` is a terminal's program: an existing file named `terminal64.exe` or `terminal.exe`."""
    if not path:
        return False
    program = Path(path).expanduser()
    return program.name.lower() in TERMINAL_PROGRAMS and program.is_file()


def _process_names() -> list[str]:
    names = []
    for pid in psutil.pids():
        try:
            names.append(psutil.Process(pid).name())
        except (psutil.Error, OSError):  # ended meanwhile, or not ours to look at
            continue
    return names


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there already."""
    for candidate in (folder, *folder.parents):
        if candidate.exists():
            return candidate
    return Path(sys.prefix)
