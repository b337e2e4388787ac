"""Waiting as the official package waits: with the interpreter's lock held, so that no other thread of Python runs."""

import ctypes
import sys


def sleep_holding_the_gil(seconds: float) -> None:
    """Sleeps; neither other threads nor signal handlers of this process run meanwhile."""
    left_ms = round(seconds * 1000)
    while left_ms > 0:
        # The system's calls take 32 bits of milliseconds.
        part = min(left_ms, 2**31 - 1)
        if sys.platform == "win32":
            ctypes.PyDLL("kernel32").Sleep(part)
        else:
            ctypes.PyDLL(None).poll(None, 0, part)
        left_ms -= part
