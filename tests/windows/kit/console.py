"""Type into a Windows console program under Wine, on a pseudo-terminal, as a person at the keyboard would."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from windows.kit import driver

CTRL_C = "^C"
_CONTROL = re.compile(rb"\x1b\][^\x07]*\x07|\x1b\[[0-9;?]*[a-zA-Z]")
_PERSON_S = 0.7  # a program clears its keyboard buffer when it asks: nobody types before reading


class Console:
    """One program in a window: what it shows, and a keyboard."""

    def __init__(self, command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        self._screen, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))  # lines, columns: none is wrapped
        self.process = subprocess.Popen(
            ["wine", *command],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=cwd,
            env=driver.environment(env),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(terminal)
        self._shown = b""
        self._read_to = 0
        self._left = False

    @property
    def shown(self) -> str:
        """All that the window showed so far, without cursor movements."""
        return _CONTROL.sub(b"", self._shown).decode("utf-8", "replace").replace("\r", "")

    def wait_for(self, prompt: str, timeout: float = 60) -> None:
        """Wait until `prompt` shows after what was waited for before."""
        deadline = time.monotonic() + timeout
        while (at := self.shown.find(prompt, self._read_to)) < 0:
            if time.monotonic() > deadline:
                raise AssertionError(f"the window does not show {prompt!r} within {timeout:g} s:\n{self.shown}")
            if not self._read() and self._left and prompt not in self.shown[self._read_to :]:
                raise AssertionError(f"the window closed without {prompt!r}:\n{self.shown}")
        self._read_to = at + len(prompt)

    def type(self, keys: str, *, after: str) -> None:
        """Wait for the prompt `after`, then type `keys` and Enter; `CTRL_C` is the keys alone."""
        self.wait_for(after)
        time.sleep(_PERSON_S)
        os.write(self._screen, b"\x03" if keys == CTRL_C else keys.encode() + b"\r")

    def wait(self, timeout: float = 60) -> int:
        """Read until the window is gone: the program's exit code."""
        deadline = time.monotonic() + timeout
        while not self._left:
            self._read()
            if time.monotonic() > deadline:
                raise AssertionError(f"the window is still open after {timeout:g} s:\n{self.shown}")
        return self.process.wait()

    def close(self) -> None:
        """Close the window, whatever still runs in it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        os.close(self._screen)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._screen], [], [], 0.2)
        if not ready:
            return False
        try:
            more = os.read(self._screen, 65536)
        except OSError:  # the last program on the terminal has gone
            self._left = True
            return False
        self._shown += more
        return bool(more)
