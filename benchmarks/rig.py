"""Real processes to measure on: the embedded broker, and a figure or two about any process."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """The embedded broker in a process of its own; gives its address."""
    with program("-m", "mt5_bridge.demo.broker") as process:
        assert process.stdout is not None
        yield str(json.loads(process.stdout.readline())["bootstrap"])


@contextlib.contextmanager
def program(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, stdout: int = subprocess.PIPE
) -> Iterator["subprocess.Popen[str]"]:
    """A Python program of the project, asked to end (then made to) at the end of the block."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        stdin=subprocess.PIPE,
        stdout=stdout,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def rss_mib(pid: int) -> float:
    """Resident memory of a process in MiB."""
    return float(psutil.Process(pid).memory_info().rss) / (1 << 20)


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of processes so far."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(float(t.user + t.system) for t in times)
