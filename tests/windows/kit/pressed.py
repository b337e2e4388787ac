"""Run an entry script in this process, and have Ctrl+Break pressed in it: `pressed.py MOMENT SCRIPT`.

MOMENT is `loading`, as soon as somebody listens, or what stands in the daemon's log when it is time. The signal
is raised by the C runtime, as its console handler does it; Wine's console has no such key, and knows
no event for a group.
"""

import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

MOMENT, SCRIPT = sys.argv[1:]
LOADING = "loading"
BREAK: int = getattr(signal, "SIGBREAK", 0)


def press() -> None:
    """Ctrl+Break, from another thread, as the system does it."""
    sys.stdout.write(f"pressed with {len(sys.modules)} modules loaded\n")
    sys.stdout.flush()
    signal.raise_signal(BREAK)


def press_early() -> None:
    """The moment there is a handler."""
    while signal.getsignal(BREAK) == signal.SIG_DFL:
        time.sleep(0.0005)
    press()


def press_later() -> None:
    """The moment the daemon says so."""
    log = Path(os.environ["DATA_DIR"]) / "mt5_bridge.log"
    while not log.exists() or MOMENT not in log.read_text(encoding="utf-8"):
        time.sleep(0.05)
    press()


if __name__ == "__main__":
    threading.Thread(target=press_early if MOMENT == LOADING else press_later, daemon=True).start()
    sys.argv = [SCRIPT]
    sys.path[0] = str(Path(SCRIPT).parent)
    runpy.run_path(SCRIPT, run_name="__main__")
