"""When a program of the demo is to end: it is told by a signal, or its parent is gone."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable


def asked_to_stop(*, with_stdin: bool = False) -> asyncio.Event:
    """An event of the running loop that is set by SIGINT, SIGTERM or Ctrl+Break.

    Args:
        with_stdin: the end of standard input sets it too. A parent that dies, however it dies, ends it.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def ask(*_: object) -> None:
        # A second Ctrl+C may come while the loop is already closing.
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), ask)
    if with_stdin:
        call_at_eof(ask)
    return stop


def call_at_eof(then: Callable[[], object]) -> None:
    """Call `then`, in a thread of its own, when standard input ends."""

    def wait() -> None:
        # Not sys.stdin: its buffer's lock, held by a blocked read, would abort the interpreter's exit.
        while os.read(0, 4096):
            continue
        then()

    # A daemon thread: a blocked read of standard input cannot be cancelled on every system.
    threading.Thread(target=wait, name="stdin-eof", daemon=True).start()
