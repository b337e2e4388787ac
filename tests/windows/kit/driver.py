"""Run the bridge's Windows Python from a test: under Wine on other systems, as it is on Windows."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from windows.kit import build

ON_WINDOWS = sys.platform == "win32"
_PYTHON = [sys.executable] if ON_WINDOWS else ["wine", r"C:\bridge\venv\Scripts\python.exe"]

if sys.platform == "win32":
    _GROUP = subprocess.CREATE_NEW_PROCESS_GROUP  # so that the key reaches the program and not the test as well
else:
    _GROUP = 0


def native(path: Path) -> str:
    """The name of a host's file for a Windows program."""
    return str(path) if ON_WINDOWS else build.windows_path(path)


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a Windows program: `extra`, and none of the bridge's own settings from this shell."""
    base = dict(os.environ) if ON_WINDOWS else build.environment()
    return {**base, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **extra}


@dataclass
class Running:
    """A Windows program with its output read as it comes, for `wait_line` and for the failure's message."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    _fresh: "queue.Queue[str | None]" = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, name=f"output of {self.process.pid}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stream: IO[str] | None = self.process.stdout
        assert stream is not None
        for line in stream:
            self.lines.append(line.rstrip())
            self._fresh.put(line)
        self._fresh.put(None)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_line(self, text: str, timeout: float) -> str:
        """The first line not seen yet that contains `text`; fails with all the output when none comes in time."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._fresh.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {text!r} within {timeout:g} s in:\n{self.output}") from None
            if line is None:
                raise AssertionError(f"ended without {text!r}:\n{self.output}")
            if text in line:
                return line.rstrip()

    def interrupt(self) -> None:
        """Ctrl+C, or Ctrl+Break on Windows itself."""
        if sys.platform == "win32":
            self.process.send_signal(signal.CTRL_BREAK_EVENT)  # a new process group hears no Ctrl+C
        else:
            self.process.send_signal(signal.SIGINT)

    def wait(self, timeout: float) -> int:
        """The exit code, once all the output has been read."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s:\n{self.output}") from None
        self._reader.join(timeout=5)
        return code


@contextlib.contextmanager
def start(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, program: str | None = None
) -> Iterator[Running]:
    """Start the Windows Python (or another `program`) with `arguments`; killed at the end when still running."""
    command = _PYTHON if program is None else [*_PYTHON[:-1], program]
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=cwd,
        env=environment(env or {}),
        stdin=subprocess.PIPE,  # Wine 8's Python wants pipes, not files, on its standard streams
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=not ON_WINDOWS,
        creationflags=_GROUP,
    )
    running = Running(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def run(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 60) -> tuple[int, str]:
    """Run the Windows Python to its end: exit code and output."""
    with start(*arguments, cwd=cwd, env=env) as running:
        code = running.wait(timeout)
        return code, running.output
