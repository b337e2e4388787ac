"""What `start_bridge.bat` does, for any system: prepares, starts the bridge, and starts it again after a crash.

    python scripts/start_bridge.py [hybrid|standard|demo|dashboard]

Exit codes are the bridge's: 0 ended as asked, 2 configuration, 3 terminal, 4 another instance. A crash is answered by a
restart after a growing pause; a reason that a restart cannot mend never is. Standard library only.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this must be readable for the Python that is too old
    sys.exit("MT5 Bridge needs Python 3.11 or later; this is %d.%d." % sys.version_info[:2])  # noqa: UP031 - likewise

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from setup_env import ROOT, SetupError, beside, python_for

MODES = ("hybrid", "standard", "demo", "dashboard")
BESIDE = ("demo", "dashboard")
"""Modes that run no bridge to be kept running."""
OK, CONFIGURATION, TERMINAL, INSTANCE = 0, 2, 3, 4
FINAL = {
    OK: "The bridge has ended as asked.",
    CONFIGURATION: "The settings are not right: see the lines above, mend .env, and start again.",
    TERMINAL: "The terminal refuses: see the lines above. A wrong password is never tried again by itself.",
    INSTANCE: "Another bridge already runs on this account or folder.",
}
"""Exit codes after which the bridge is not started again, and what to tell."""
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
STEADY_S = 600.0
"""A run this long was no crash loop: the next pause is a short one again."""


def pauses(lived_s: float, last_s: float) -> float:
    """The pause after a crash: doubled each time up to five minutes, short again after a steady run."""
    if lived_s >= STEADY_S or last_s <= 0:
        return FIRST_PAUSE_S
    return min(last_s * 2, LONGEST_PAUSE_S)


class Keeper:
    """Keeps a program running.

    Args:
        start: runs it once and gives its exit code.
        wait: waits so many seconds; True when somebody asked to end meanwhile.
        monotonic: clock in seconds.
        say: tells a person.
    """

    def __init__(
        self,
        start: Callable[[], int],
        wait: Callable[[float], bool],
        monotonic: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = print,
    ) -> None:
        self._start = start
        self._wait = wait
        self._monotonic = monotonic
        self._say = say

    def run(self) -> int:
        """Starts the program until it ends for good; gives the last exit code."""
        pause = 0.0
        while True:
            begun = self._monotonic()
            code = self._start()
            if code in FINAL:
                self._say(FINAL[code])
                return code
            pause = pauses(self._monotonic() - begun, pause)
            self._say(f"The bridge crashed (code {code}). It starts again in {pause:.0f} s; Ctrl+C ends this.")
            if self._wait(pause):
                return OK


def prepare_env_file(folder: Path) -> bool:
    """Copies `.env.example` to `.env` when there is none; True when it did."""
    target = folder / ".env"
    if target.exists():
        return False
    shutil.copyfile(folder / ".env.example", target)
    if os.name == "posix":
        target.chmod(0o600)
    return True


def wants_gateway(folder: Path) -> bool:
    """Whether the environment or `.env` switches the gateway on, which needs more packages."""
    said = os.environ.get("GATEWAY_ENABLED", "")
    file = folder / ".env"
    if not said and file.is_file():
        text = file.read_text(encoding="utf-8-sig", errors="replace")
        found = re.findall(r"^\s*(?:export\s+)?GATEWAY_ENABLED\s*=\s*[\"']?(\w+)", text, re.MULTILINE | re.IGNORECASE)
        said = found[-1] if found else ""
    return said.strip().lower() in ("1", "true", "yes", "on")


def main(arguments: Sequence[str], folder: Path = ROOT) -> int:
    """Does everything; `arguments` are those of the command line."""
    mode = arguments[0].lower() if arguments else "hybrid"
    if mode not in MODES or len(arguments) > 1:
        print(f"Usage: start_bridge [{'|'.join(MODES)}]")
        return CONFIGURATION
    os.chdir(folder)
    try:
        purpose = "gateway" if wants_gateway(folder) else "bridge"
        python = str(python_for(mode if mode in BESIDE else purpose))
    except SetupError as error:
        print(f"\n{error}")
        return CONFIGURATION
    if mode in BESIDE:
        return beside([python, "-m", "mt5_bridge", mode])
    if prepare_env_file(folder):
        print("A new .env was made from .env.example.")
    cli = [python, "-m", "mt5_bridge"]
    for step in ([*cli, "init", "--missing", "--mode", mode], [*cli, "config", "check", "--set", f"MODE={mode}"]):
        code = beside(step)
        if code != OK:
            print(FINAL.get(code, f"That ended with code {code}."))
            return code
    return keep([python, "hybrid_bridge.py" if mode == "hybrid" else "run_bridge.py"])


def keep(command: Sequence[str]) -> int:
    """Keeps a command running until it ends for good or Ctrl+C is pressed."""
    asked = threading.Event()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in _stop_signals()}
    try:
        return Keeper(lambda: _once(command, asked), _until(asked)).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _once(command: Sequence[str], asked: threading.Event) -> int:
    import subprocess

    with subprocess.Popen(list(command)) as process:
        while True:
            try:
                code = process.wait(0.5)
            except subprocess.TimeoutExpired:
                # Ctrl+C reaches the bridge by itself, a plain SIGTERM only this process.
                if asked.is_set() and os.name == "posix":
                    process.terminate()
                continue
            return OK if asked.is_set() else code


def _until(asked: threading.Event) -> Callable[[float], bool]:
    def wait(seconds: float) -> bool:
        end = time.monotonic() + seconds
        # In short pieces: a wait without end is deaf to Ctrl+C on Windows.
        while time.monotonic() < end and not asked.is_set():
            asked.wait(0.2)
        return asked.is_set()

    return wait


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
