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
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from mt5_bridge.core.deadman import Pulse
from mt5_bridge.core.memory import keep_what_is_there
from mt5_bridge.terminal.deadman import DeadMan
from mt5_bridge.terminal.frames import Failure, FrameError, HostError, Request, pack
from mt5_bridge.terminal.host_lock import HostLock
from mt5_bridge.terminal.host_ops import Host
from mt5_bridge.terminal.inbox import Inbox, PipeInbox
from mt5_bridge.terminal.raw import OpenArgs

BACKENDS = {"mt5": "MetaTrader5", "paper": "mt5_bridge.simulator"}
_FITS_A_PIPE = 4096
"""Every system's pipe takes so much, even while nobody reads."""
_LOCK_WAIT_S = 5.0


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
    """Answers one request after the other, and acts by itself when the parent is dead and a dead-man's switch is set.

    Args:
        inbox: what the parent sends.
        replies: where the answers go.
    """

    def __init__(self, inbox: Inbox, replies: _Sink) -> None:
        self._inbox = inbox
        self._replies = replies
        self._host: Host | None = None
        self._lock: HostLock | None = None
        self._dead_man: DeadMan | None = None
        self._pulse = Pulse(None)
        self._silent = False
        self._serving = 0
        self._decode = msgspec.msgpack.Decoder(Request).decode

    @property
    def armed(self) -> bool:
        """The parent's death would be acted on: an account is there to act on."""
        logged_in = self._host is not None and self._host.whose is not None
        return self._dead_man is not None and logged_in and not self._inbox.dismissed

    def run(self) -> None:
        """Serve until the parent closes the pipe, or is silent for too long."""
        while (payload := self._next()) is not None and self._reply(self._answer(self._decode(payload))):
            continue
        if self.armed:
            self._act()
        self._shutdown()

    def _next(self) -> bytes | None:
        """The next request. None: the parent is gone or counts as dead."""
        while True:
            # Before there is anything to act on, silence is nobody's concern.
            turn_s, began = self._pulse.turn_s if self.armed else None, time.monotonic()
            try:
                return self._inbox.get(turn_s)
            except queue.Empty:
                if self._judge(began):
                    return None

    def _judge(self, began: float) -> bool:
        self._inbox.look()
        self._silent = self.armed and self._pulse.turned(self._inbox.reads, time.monotonic() - began)
        return self._silent

    def _reply(self, frame: bytearray) -> bool:
        """Hand a reply over. False: the parent does not take it and counts as dead."""
        if not self.armed:
            self._replies.write(frame)
            return True
        if len(frame) <= _FITS_A_PIPE:
            # The parent has read all earlier replies, so this one finds room. One that is gone closes our pipe as well.
            with contextlib.suppress(OSError):
                self._replies.write(frame)
            return True
        writer = threading.Thread(target=self._write_aside, args=(frame,), name="reply", daemon=True)
        writer.start()
        while True:
            began = time.monotonic()
            writer.join(self._pulse.turn_s)
            if not writer.is_alive():
                return True
            if self._judge(began):
                return False

    def _write_aside(self, frame: bytearray) -> None:
        with contextlib.suppress(OSError):
            self._replies.write(frame)

    def _act(self) -> None:
        """The parent is dead: its requests that came before its end have all been served."""
        assert self._dead_man is not None
        # Its end of these pipes may be stuck, or gone: a word on them must not stop us.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1, inheritable=False)
        os.dup2(null, 2, inheritable=False)
        os.close(null)
        self._dead_man.act("the daemon was silent" if self._silent else "the daemon ended without a word")

    def _answer(self, request: Request) -> bytearray:
        try:
            result = self._perform(request)
        except HostError as error:
            return pack((request.id, error.failure, None))
        except FrameError:
            raise  # of the pipe, not of the call: nothing more can be read
        except Exception as error:  # noqa: BLE001 - a defect in one call is told to the daemon, the host lives on
            traceback.print_exc()
            sent = self._host is not None and self._host.sending
            return pack((request.id, Failure("bug", None, f"{type(error).__name__}: {error}", sent), None))
        return pack((request.id, None, result))

    def _perform(self, request: Request) -> Any:
        if request.op == "open":
            self._open(msgspec.convert(request.args[0], OpenArgs))
            return os.getpid()
        if self._host is None:
            raise HostError(Failure("validation", None, "the first frame must be `open`"))
        self._serving = request.id
        return self._host.perform(request.op, request.args, self._withdrawn)

    def _withdrawn(self) -> bool:
        """Whether the order that is about to be sent was taken back."""
        self._inbox.look()
        return self._serving in self._inbox.recalled

    def _open(self, args: OpenArgs) -> None:
        if args.lock is not None:
            # An earlier host may still be acting by itself: never two at once.
            self._lock = self._lock or HostLock(Path(args.lock))
            self._lock.take(_LOCK_WAIT_S)
        if args.role == "history":
            _stand_back()
        self._host = open_terminal(args)
        keep_what_is_there()  # a round of many symbols makes thousands of small objects
        if args.deadman is not None:
            self._dead_man = DeadMan(self._host, args.deadman, self._lock)
            self._pulse = Pulse(args.deadman.after_s)

    def _shutdown(self) -> None:
        if self._host is not None:
            self._host.shutdown()


def _stand_back() -> None:
    """Let all that is urgent go before this process where cores are few: hours of ticks can wait."""
    if sys.platform == "win32":
        import ctypes

        below_normal = 0x4000
        kernel = ctypes.windll.kernel32
        # Without types a handle would be cut to 32 bits, and this process's (-1) be that of nothing.
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        kernel.SetPriorityClass.argtypes = (ctypes.c_void_p, ctypes.c_ulong)
        kernel.SetPriorityClass(kernel.GetCurrentProcess(), below_normal)
    else:
        os.nice(5)


def give_up(server: Server, ended: threading.Event) -> None:
    """The parent is gone: a call still running a second later would keep this process for ever.

    With a dead-man's switch it is waited for, since there is something to be done after it; the next bridge's host ends
    it when it hangs.
    """
    if not ended.wait(1.0) and not server.armed:
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
    inbox = PipeInbox(requests.fileno())
    server = Server(inbox, replies)
    ended = threading.Event()
    inbox.watch(lambda: give_up(server, ended))
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
