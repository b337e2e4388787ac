"""Runs `mt5-bridge …` as a child of the demo: the same program, asked to stop when standard input ends.

Ending a child by its standard input works alike on every system, and also when the parent was killed.
"""

import os
import runpy
import signal
import sys

from mt5_bridge.demo.lifetime import call_at_eof


def _ask_myself_to_stop() -> None:
    if os.name == "nt":
        signal.raise_signal(signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """`python -m mt5_bridge.demo.child ARGUMENTS…` is `python -m mt5_bridge ARGUMENTS…`."""
    call_at_eof(_ask_myself_to_stop)
    sys.argv[0] = "mt5-bridge"
    runpy.run_module("mt5_bridge", run_name="__main__")


if __name__ == "__main__":
    main()
