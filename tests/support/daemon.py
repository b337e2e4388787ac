"""The daemon as its user runs it: a process with settings in its environment and a folder of its own."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from support.eventually import poll_until

from mt5_bridge.settings import SPECS

ROOT = Path(__file__).parents[2]
HYBRID = (str(ROOT / "hybrid_bridge.py"),)
STANDARD = (str(ROOT / "run_bridge.py"),)

OWN_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
"""Ctrl+Break on Windows reaches a group: it must not be the tests' own."""
STOP_S = 10.0
"""How long a daemon told to stop may take, whatever is down."""
SYMBOLS = ("AUDUSD", "GBPUSD", "XAUUSD")

GENEROUS = {
    "TERMINAL": "paper",
    "TRADING_ENABLED": "true",
    "SYMBOLS": ",".join(SYMBOLS),
    "MAX_DAILY_TRADES": "100000",
    "MAX_DAILY_LOSS_PCT": "off",
    "MAX_ORDERS_PER_SECOND": "1000",
    "MAX_RISK_PERCENT": "100",
    "PAPER_BALANCE": "1000000",
    "PAPER_SPEED": "5",
    "SIGNAL_MAX_AGE_MS": "30000",
    "BRIDGE_ID": "e2e",
    "BACKEND_AUTH_TOKEN": "backend-secret",
}
"""Settings under which no rule stands in a test's way unless the test puts it there, nor a slow machine; walks
tick five times as often."""


class Daemon:
    """One folder and the daemons that run on it, one after the other.

    Args:
        folder: its DATA_DIR is made in there, its console goes to a file there.
        env: settings, over `GENEROUS`.
        command: arguments of Python.
    """

    def __init__(self, folder: Path, env: Mapping[str, str], command: Sequence[str] = HYBRID) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.env = {**GENEROUS, "DATA_DIR": str(self.data), **env}
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self._seen: list[psutil.Process] = []

    def start(self, *, stdout: int | None = None, env: Mapping[str, str] | None = None) -> None:
        """Starts it; does not wait for anything.

        Args:
            stdout: a file descriptor for both its outputs; None: `console.log`.
            env: more settings, for this life and those after it.
        """
        assert self.process is None or self.process.poll() is not None
        self.env.update(env or {})
        with (self.folder / "console.log").open("ab") as log:
            out = log.fileno() if stdout is None else stdout
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=self.folder,
                env=environment(self.env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                creationflags=OWN_GROUP,
            )
        self._seen.append(psutil.Process(self.process.pid))

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        assert self.process is not None
        return self.process.poll()

    @property
    def console(self) -> str:
        """All it said, over all lives."""
        return (self.folder / "console.log").read_text(encoding="utf-8", errors="replace")

    def hosts(self) -> list[psutil.Process]:
        """Its terminal hosts, the live one first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid).children(recursive=True)
            self._seen += [host for host in found if host not in self._seen]
            return sorted(found, key=lambda host: host.create_time())
        return []

    def kill(self) -> None:
        """As kill -9."""
        assert self.process is not None
        self.hosts()
        self.process.kill()
        self.process.wait()

    def press(self, key: int) -> None:
        """A key at its console that is a signal."""
        assert self.process is not None
        self.hosts()
        self.process.send_signal(key)

    def hears(self, number: int) -> bool:
        """Whether the process has a handler of a signal; where that cannot be seen, that it runs."""
        status = Path(f"/proc/{self.pid}/status")
        if not status.exists():
            return self.ended is None
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (number - 1) & 1)

    def ask_to_stop(self, number: int = signal.SIGINT) -> None:
        """Ctrl+C, or another signal."""
        assert self.process is not None
        self.hosts()
        if sys.platform == "win32":
            number = signal.CTRL_BREAK_EVENT  # the one that reaches another process
        self.process.send_signal(number)

    async def stop(self, number: int = signal.SIGINT, within: float = STOP_S) -> float:
        """Asks it to stop; it must end with 0 in time and leave no process. Returns the seconds it took."""
        began = time.monotonic()
        self.ask_to_stop(number)
        code = await self.exit_code(within)
        assert code == 0, f"exit code {code}\n{self.console[-3000:]}"
        took = time.monotonic() - began
        await asyncio.to_thread(poll_until, lambda: not self.left(), 2.0)
        assert not self.left(), self.left()
        return took

    async def exit_code(self, within: float = STOP_S) -> int:
        """Waits for its end."""
        process = self.process
        assert process is not None
        try:
            return await asyncio.to_thread(process.wait, within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {within:g} s\n{self.console[-3000:]}") from None

    def left(self) -> list[str]:
        """Processes that it started and that outlive it."""
        return [_named(process) for process in self._seen if process.pid != self.pid and _runs(process)]

    def close(self) -> None:
        """Ends everything that still runs."""
        if self.process is None:
            return
        self.hosts()
        for process in self._seen:
            with contextlib.suppress(psutil.Error):
                process.resume()
                process.kill()
        self.process.wait()
        poll_until(lambda: not self.left(), 3.0)


async def cli(*arguments: str, folder: Path, data: Path | None = None, timeout: float = 30.0) -> tuple[int, str]:
    """Runs `mt5-bridge ARGUMENTS`; returns its exit code and all it said."""
    env = environment({"DATA_DIR": str(data or folder / "data"), "COLUMNS": "200"})
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "mt5_bridge", *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without any setting of the bridge, and these."""
    own = {name: value for name, value in os.environ.items() if name.upper() not in SPECS}
    return {**own, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **settings}


def _named(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {process.status()}: {' '.join(process.cmdline())}"
    return str(process.pid)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
