"""The terminal host: a child process in which every call of the terminal happens, `python -m mt5_bridge.terminal.host`.

The `MetaTrader5` extension holds the GIL through its blocking calls; here nobody minds. Requests come as frames on
stdin, replies leave on what was stdout; the real stdout is moved out of the way first, so that a stray print cannot
corrupt the stream. This process alone imports `MetaTrader5` (or the simulator) and with it numpy.
"""

import contextlib
import importlib
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any, BinaryIO, Protocol

import msgspec

from mt5_bridge.terminal.frames import Failure, FrameReader, HostError, Request, pack
from mt5_bridge.terminal.host_ops import Host
from mt5_bridge.terminal.raw import OpenArgs

BACKENDS = {"mt5": "MetaTrader5", "paper": "mt5_bridge.simulator"}


def open_terminal(args: OpenArgs) -> Host:
    """Import the terminal's module and give a paper terminal its settings.

    Raises:
        HostError: the module is not there or refuses its settings.
    """
    try:
        module = importlib.import_module(BACKENDS.get(args.backend, args.backend))
    except ImportError as error:
        raise HostError(Failure("import", None, f"{args.backend}: {error}")) from error
    configure = getattr(module, "configure", None)
    if configure is not None:
        try:
            configure({**args.settings, "PAPER_ROLE": args.role})
        except Exception as error:  # settings are the user's: whatever they break is told, not a crash
            raise HostError(Failure("settings", None, str(error))) from error
    return Host(module)


class _Sink(Protocol):
    def write(self, data: bytes | bytearray, /) -> int: ...


class Server:
    """Answers one request after the other.

    Attributes:
        inbox: payloads of frames, and None when the parent is gone.
    """

    def __init__(self, replies: _Sink) -> None:
        self.inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._replies = replies
        self._host: Host | None = None
        self._decode = msgspec.msgpack.Decoder(Request).decode

    def run(self) -> None:
        """Serve until the parent closes the pipe."""
        while (payload := self.inbox.get()) is not None:
            self._replies.write(self._answer(self._decode(payload)))
        self._shutdown()

    def _answer(self, request: Request) -> bytearray:
        try:
            result = self._perform(request)
        except HostError as error:
            return pack((request.id, error.failure, None))
        except Exception as error:  # noqa: BLE001 - a defect in one call is told to the daemon, the host lives on
            traceback.print_exc()
            sent = self._host is not None and self._host.sending
            return pack((request.id, Failure("bug", None, f"{type(error).__name__}: {error}", sent), None))
        return pack((request.id, None, result))

    def _perform(self, request: Request) -> Any:
        if request.op == "open":
            self._host = open_terminal(msgspec.convert(request.args[0], OpenArgs))
            return os.getpid()
        if self._host is None:
            raise HostError(Failure("validation", None, "the first frame must be `open`"))
        return self._host.perform(request.op, request.args)

    def _shutdown(self) -> None:
        if self._host is not None:
            self._host.shutdown()


def read_requests(requests: BinaryIO, inbox: "queue.SimpleQueue[bytes | None]", busy: "threading.Event") -> None:
    """Thread: frames from the parent into the inbox. EOF means that the parent is gone.

    This is where a dead-man's switch belongs: it sees the parent go even while a call that releases the GIL hangs.
    """
    frames = FrameReader()
    fd = requests.fileno()
    while data := os.read(fd, 65536):
        for payload in frames.feed(data):
            inbox.put(payload)
    inbox.put(None)
    # A call still running a second after the parent went would keep this process for ever.
    if not busy.wait(1.0):
        os._exit(1)


def take_stdio() -> tuple[BinaryIO, _Sink]:
    """Move the pipes to private descriptors: fd 0 becomes empty, fd 1 becomes stderr.

    Returns:
        (requests, replies), binary and unbuffered.
    """
    requests_fd, replies_fd = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    # Not inheritable: a terminal started from here must not keep the pipes open after this process.
    os.dup2(null, 0, inheritable=False)
    os.close(null)
    os.dup2(2, 1, inheritable=False)
    os.set_inheritable(2, False)
    sys.stdout = sys.stderr
    if sys.platform == "win32":
        import msvcrt

        msvcrt.setmode(requests_fd, os.O_BINARY)
        msvcrt.setmode(replies_fd, os.O_BINARY)
    return os.fdopen(requests_fd, "rb", buffering=0), Whole(replies_fd)


class Whole:
    """Writes all of a frame, however little the pipe takes at a time."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes | bytearray) -> int:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        return len(data)


def main(backends: Sequence[str] = ()) -> int:
    """Run the host until its parent closes the pipe.

    Args:
        backends: what will be opened, to be imported at once.
    """
    # Ctrl+C in a shared console is the daemon's to order: the host stops when the pipe closes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = take_stdio()
    server = Server(replies)
    ended = threading.Event()
    threading.Thread(target=read_requests, args=(requests, server.inbox, ended), name="requests", daemon=True).start()
    # Ahead of `open`, which meets the same error and tells it.
    with contextlib.suppress(Exception):
        for backend in backends:
            importlib.import_module(BACKENDS.get(backend, backend))
    try:
        server.run()
    except BrokenPipeError:
        return 1
    finally:
        ended.set()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
