"""The console: written past Python's own buffers, and freed of what makes a Windows console stop a program."""

import errno
import os
import sys
from collections.abc import Sequence

_COLOURS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m", "SUCCESS": "\x1b[32m"}
_PLAIN = "\x1b[0m"


class ConsoleWriter:
    """Writes lines to a file descriptor. Only its own thread may block in it.

    Python's own `sys.stderr` is left alone: a thread that hangs in its buffer would hang the interpreter's exit too.

    Args:
        descriptor: usually 2.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._gone = False
        tty = os.isatty(descriptor)
        self._colours = tty and "NO_COLOR" not in os.environ and prepare_windows_console()
        self._encoding = _encoding(tty)

    def write(self, lines: Sequence[tuple[str, str]], dropped: int) -> None:
        """Writes (level, line) pairs; a console that went away takes nothing more."""
        if self._gone:
            return
        texts = [f"… {dropped} lines were dropped: nobody read the console\n"] if dropped else []
        texts += [self._painted(level, line) for level, line in lines]
        data = memoryview("".join(texts).encode(self._encoding, "backslashreplace"))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            self._gone = error.errno not in (errno.EAGAIN, errno.EINTR)

    def _painted(self, level: str, line: str) -> str:
        colour = self._colours and _COLOURS.get(level)
        return f"{colour}{line.rstrip()}{_PLAIN}\n" if colour else line


def _encoding(tty: bool) -> str:
    if tty and sys.platform == "win32":
        import ctypes

        return f"cp{ctypes.windll.kernel32.GetConsoleOutputCP()}"
    return "utf-8"


def prepare_windows_console() -> bool:
    """Switches QuickEdit off (a click would freeze every writer) and colours on; True when colours work.

    Elsewhere there is nothing to do. Without a console of its own, a service say, it changes nothing.
    """
    if sys.platform != "win32":
        return True
    import ctypes
    from ctypes import wintypes

    quick_edit, extended_flags, virtual_terminal = 0x40, 0x80, 0x4
    kernel = ctypes.windll.kernel32
    kernel.GetStdHandle.restype = wintypes.HANDLE
    mode = wintypes.DWORD()
    keyboard = wintypes.HANDLE(kernel.GetStdHandle(wintypes.DWORD(-10 & 0xFFFFFFFF)))
    if kernel.GetConsoleMode(keyboard, ctypes.byref(mode)):
        kernel.SetConsoleMode(keyboard, wintypes.DWORD((mode.value & ~quick_edit) | extended_flags))
    screen = wintypes.HANDLE(kernel.GetStdHandle(wintypes.DWORD(-12 & 0xFFFFFFFF)))
    if not kernel.GetConsoleMode(screen, ctypes.byref(mode)):
        return False
    return bool(kernel.SetConsoleMode(screen, wintypes.DWORD(mode.value | virtual_terminal)))
