"""The programs the demo starts: each writes to a log of its own and ends when its standard input does."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_POLL = 0.05
_KILL_GRACE = 5.0


class Child:
    """One program.

    Args:
        name: for people and the name of its log.
        command: what to run.
        folder: working directory and place of the log.
        environment: all of it.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.needed = True
        self.log = folder / f"{name}.log"
        options: dict[str, Any] = {}
        # Out of the terminal's process group: Ctrl+C reaches the demo alone, which then stops all in order.
        if sys.platform == "win32":
            options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
        else:
            options["start_new_session"] = True
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own programs
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=dict(environment),
                **options,
            )

    @property
    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()

    def ask_to_end(self) -> None:
        """Close its standard input."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()

    def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(OSError):
            self.process.kill()

    def last_lines(self, count: int) -> list[str]:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
        return []

    def announced(self, field: str) -> str | None:
        """A field of the JSON line with which a program says that it is ready."""
        for line in self.last_lines(200):
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and field in said:
                    return str(said[field])
        return None


class Children:
    """All of them; leaving the context ends those that still run, last started first.

    Args:
        folder: for logs.
        grace: seconds each has to end by itself.
    """

    def __init__(self, folder: Path, grace: float = 12.0) -> None:
        self._folder = folder
        self._grace = grace
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def start(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], *, needed: bool = True
    ) -> Child:
        """Start a program of this package with the Python that runs us; it goes on without one not `needed`."""
        child = Child(name, [sys.executable, *arguments], self._folder, environment)
        child.needed = needed
        self._children.append(child)
        return child

    def dead(self) -> Child | None:
        """A needed one that ended though nobody asked it to."""
        return next((child for child in self._children if child.needed and child.ended is not None), None)

    def end(self) -> list[str]:
        """Ask each to end, kill those that do not. Returns the names of the killed."""
        killed = []
        # The bridge first: it says goodbye to broker and backend while they are still there.
        for child in reversed(self._children):
            child.ask_to_end()
            if not child.needed:
                child.kill()  # it keeps nothing, and may still be loading what it needs
            if not _gone(child, self._grace):
                killed.append(child.name)
                child.kill()
                _gone(child, _KILL_GRACE)
        self._children.clear()
        return killed


def _gone(child: Child, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while child.ended is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True
