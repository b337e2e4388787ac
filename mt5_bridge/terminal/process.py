"""The terminal host as a child process: start, frames in and out, kill. No decisions here."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from loguru import logger

from mt5_bridge.terminal.frames import FrameError, FrameReader

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_SECRET_WORDS = ("PASSWORD", "TOKEN", "SECRET", "KEY")
_PIPE_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
_LONGEST_LINE = 4096
_LAST_WORDS_S = 0.5
_KILL_S = 2.0
"""How long the system may take to end a killed process: one stuck in a driver is left behind, the daemon goes on."""


def child_environment(python_path: tuple[str, ...] = ()) -> dict[str, str]:
    """The host's environment: the daemon's without its secrets, and one thread for numpy's libraries (memory)."""
    kept = {name: value for name, value in os.environ.items() if not any(w in name.upper() for w in _SECRET_WORDS)}
    path = [str(_PACKAGE_ROOT), *python_path, *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUTF8": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


class HostProcess(asyncio.SubprocessProtocol):
    """One running host. Use `start`.

    Args:
        on_frame: called with the payload of each frame.
        on_exit: called once, with why, when the host is gone.
    """

    def __init__(self, on_frame: Callable[[bytes], None], on_exit: Callable[[str], None]) -> None:
        self._on_frame = on_frame
        self._on_exit: Callable[[str], None] | None = on_exit
        self._frames = FrameReader()
        self._line = b""
        self._killed_for: str | None = None
        self._gone = asyncio.Event()
        self._closed = asyncio.Event()

    @classmethod
    async def start(
        cls,
        on_frame: Callable[[bytes], None],
        on_exit: Callable[[str], None],
        python_path: tuple[str, ...] = (),
        backend: str | None = None,
    ) -> "HostProcess":
        """Start a host.

        Args:
            on_frame: called with the payload of each frame.
            on_exit: called once, with why, when the host is gone.
            python_path: more places for the host to import from.
            backend: what it will be told to open, for it to import that at once.

        Raises:
            OSError: the system cannot start a process now.
        """
        loop = asyncio.get_running_loop()
        # A group of its own: Ctrl+C in the console reaches the daemon alone, which stops the host in its order.
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
        _, protocol = await loop.subprocess_exec(
            lambda: cls(on_frame, on_exit),
            sys.executable,
            "-P",
            "-m",
            "mt5_bridge.terminal.host",
            *([] if backend is None else [backend]),
            env=child_environment(python_path),
            creationflags=flags,
            start_new_session=sys.platform != "win32",
        )
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The child runs and its pipes are there: before anything else is called."""
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._requests = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        replies = cast(asyncio.ReadTransport, self._transport.get_pipe_transport(1))
        replies.set_protocol(_Replies(self, cast(asyncio.Protocol, replies.get_protocol())))
        if sys.platform == "linux":
            import fcntl

            # A page of ticks passes in a few wake-ups instead of twenty; a user at the pipe limit does without.
            pipe = replies.get_extra_info("pipe")  # uvloop does not show it
            with contextlib.suppress(OSError):
                if pipe is not None:
                    fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_SIZE)

    @property
    def ended(self) -> str | None:
        """Why it is gone; None while it runs."""
        return None if self._on_exit is not None else self._killed_for or ""

    @property
    def closed(self) -> bool:
        """Nothing of it is left."""
        return self._closed.is_set()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._transport.get_pid()

    def write(self, frame: bytes | bytearray) -> None:
        """Hand a frame to the host."""
        if not self._requests.is_closing():
            self._requests.write(frame)

    def kill(self, reason: str) -> None:
        """End the process now, whatever it is doing. `on_exit` is called before this returns."""
        self._killed_for = self._killed_for or reason
        if not self._gone.is_set():
            # Gone a moment ago is as good as killed.
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()
        self._tell_exit()

    async def close(self, timeout: float) -> None:
        """Let the host end by itself (EOF), kill it after `timeout` seconds, and wait until it is gone.

        A cancelled `close` kills at once: a host that hangs would not notice the end of the daemon.
        """
        self._requests.close()
        try:
            await _within(timeout, self._gone)
        finally:
            if not self._gone.is_set():
                self.kill("it did not end")
        await _within(_KILL_S, self._gone)
        self._transport.close()
        await _within(_KILL_S, self._closed)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Frames from stdout, text from stderr."""
        if fd == 1:
            self.replied(data)
        else:
            self._log(data)

    def replied(self, data: bytes) -> None:
        """Frames from stdout."""
        if self.ended is not None:
            return  # what a killed host still had in the pipe answers calls that have already failed
        try:
            for payload in self._frames.feed(data):
                self._on_frame(payload)
        except FrameError as error:
            self.kill(str(error))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A closed pipe: without stdout the host is of no use, and nothing more will come of it."""
        if fd == 1 and self.ended is None:
            self._end_soon()
            self._tell_exit()

    def process_exited(self) -> None:
        """The process is gone. A last reply may still be in the pipe: the end of stdout tells when all was read."""
        code = self._transport.get_returncode()
        logger.bind(event="host_exited").debug("Terminal host ended, code {code}", code=code)
        self._gone.set()
        self._end_soon()

    def _end_soon(self) -> None:
        # One sign of the end without the other: a host that lives on mute, or a terminal that holds the pipe open.
        self._killed_for = self._killed_for or "it ended by itself"
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self.kill, self._killed_for)

    def connection_lost(self, exc: Exception | None) -> None:
        """Process and pipes are gone."""
        self._transport.close()
        self._closed.set()
        self._tell_exit()

    def _tell_exit(self) -> None:
        tell, self._on_exit = self._on_exit, None
        if tell is not None:
            tell(self._killed_for or "")

    def _log(self, data: bytes) -> None:
        *lines, rest = (self._line + data).split(b"\n")
        self._line = rest[-_LONGEST_LINE:]
        for line in lines:
            text = line[:_LONGEST_LINE].decode("utf-8", "replace").rstrip()
            if text:
                logger.bind(event="host_stderr").warning("Terminal host: {text}", text=text)


class _Replies(asyncio.Protocol):
    """Stands before the subprocess transport's own protocol of stdout, which hands data on a turn of the loop later.

    Every answer of the terminal would wait for that turn, and the next request behind it.
    """

    def __init__(self, process: HostProcess, before: asyncio.Protocol) -> None:
        self._process = process
        self._before = before

    def data_received(self, data: bytes) -> None:
        self._process.replied(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._before.connection_lost(exc)


async def _within(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
