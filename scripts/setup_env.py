"""Makes or reuses `.venv` from a lock file. Standard library only: this runs before anything is installed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCKS = {
    "bridge": ("bridge",),
    "dashboard": ("bridge", "dashboard"),
    "demo": ("bridge", "dashboard", "demo"),
    "gateway": ("bridge", "gateway"),
    "dev": ("bridge", "dashboard", "demo", "gateway", "dev"),
}
"""Lock files by purpose, and whose purposes each serves too."""
OWN_PYTHON = "MT5_BRIDGE_PYTHON"
"""Environment variable: an interpreter that has everything already; no `.venv` is made then."""
STAMP = "mt5-bridge.json"


class SetupError(Exception):
    """The environment cannot be made; the text says what to do."""


def python_for(purpose: str, venv: Path = VENV) -> Path:
    """The interpreter of an environment that has what the lock file of `purpose` asks for.

    Args:
        purpose: `bridge`, `dashboard`, `demo`, `gateway` or `dev`.
        venv: the environment's folder.

    Raises:
        SetupError: it could not be made.
    """
    given = os.environ.get(OWN_PYTHON)
    if given:
        return Path(given)
    venv.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(venv):
        wanted = _fingerprint(purpose)
        if _stamps(venv).get(purpose) != wanted or not _works(interpreter(venv)):
            _build(venv, purpose)
            _stamp(venv, purpose)
    return interpreter(venv)


def run(purpose: str, arguments: Sequence[str]) -> int:
    """Runs the environment's interpreter with `arguments`; gives its exit code back."""
    try:
        python = python_for(purpose)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return hand_over([str(python), *arguments])


def hand_over(command: Sequence[str]) -> int:
    """Runs a command in place of this process where that is possible, else beside it; Ctrl+C is the command's own."""
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], list(command))  # noqa: S606 - a shell would only stand between
    return beside(command)


def beside(command: Sequence[str]) -> int:
    """Runs a command and waits for it; a Ctrl+C here is left to the command, which gets it too."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        return subprocess.call(list(command))
    finally:
        signal.signal(signal.SIGINT, before)


def interpreter(venv: Path) -> Path:
    """Where an environment keeps its interpreter."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _fingerprint(purpose: str) -> str:
    lock = _lock_file(purpose).read_bytes().replace(b"\r\n", b"\n")
    return hashlib.sha256(lock + sys.version.encode() + str(ROOT).encode()).hexdigest()


def _lock_file(purpose: str) -> Path:
    return ROOT / "requirements" / f"{purpose}.txt"


def _stamps(venv: Path) -> dict[str, str]:
    try:
        stamps = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def _stamp(venv: Path, purpose: str) -> None:
    stamps = {**_stamps(venv), **{served: _fingerprint(served) for served in LOCKS[purpose]}}
    (venv / STAMP).write_text(json.dumps(stamps), encoding="utf-8")


def _works(python: Path) -> bool:
    """Whether an interpreter runs and is of this one's version: one that was updated away does neither."""
    if not python.exists():
        return False
    try:
        done = subprocess.run(
            [str(python), "-c", "import sys; print(sys.version)"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == sys.version.strip()


def _build(venv: Path, purpose: str) -> None:
    lock = _lock_file(purpose)
    print(f"Setting up {venv} from {lock.relative_to(ROOT)}: this takes a minute the first time.", flush=True)
    uv = shutil.which("uv")
    if not (uv and _with_uv(uv, venv, lock)):
        _with_pip(venv, lock)
    _put_on_path(venv)


def _with_uv(uv: str, venv: Path, lock: Path) -> bool:
    """Builds with uv; False when it did not work out, so that pip gets a try: their settings may differ."""
    options = ["-q", "--compile-bytecode", "--require-hashes", "-r", str(lock)]  # pip compiles unasked
    steps = [[uv, "pip", "install", "--python", str(interpreter(venv)), *options]]
    if not _works(interpreter(venv)):
        _remove(venv)
        steps.insert(0, [uv, "venv", "-q", "--python", sys.executable, str(venv)])
    for step in steps:
        done = _quietly(step)
        if done.returncode != 0:
            print(f"uv did not manage ({_last_line(done.stderr)}), trying pip.", flush=True)
            return False
    return True


def _with_pip(venv: Path, lock: Path) -> None:
    python = interpreter(venv)
    if not _works(python) or _quietly([str(python), "-m", "pip", "--version"]).returncode != 0:
        _remove(venv)
        _make_venv(venv)
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"]
    done = _quietly([*command, "--no-deps", "--require-hashes", "-r", str(lock)])  # the lock names them all
    if done.returncode != 0:
        raise SetupError(_why_pip_failed(done.stderr))


def _make_venv(venv: Path) -> None:
    done = _quietly([sys.executable, "-m", "venv", str(venv)])
    if done.returncode == 0:
        return
    _remove(venv)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if "ensurepip" in done.stdout + done.stderr or "No module named venv" in done.stderr:
        raise SetupError(
            "This Python comes without the modules venv and ensurepip, as Debian's and Ubuntu's do.\n"
            f"Install them with:  sudo apt install python{version}-venv\n"
            "or install uv, which needs neither, and run this again."
        )
    raise SetupError(f"The environment {venv} could not be made:\n{done.stdout}{done.stderr}".rstrip())


def _why_pip_failed(said: str) -> str:
    text = said.lower()
    tail = "\n".join(said.strip().splitlines()[-8:])
    unreachable = ("connection", "name resolution", "getaddrinfo", "timed out", "proxy", "certificate", "ssl")
    if "no matching distribution" in text and not any(word in text for word in unreachable):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        return f"{tail}\n\nThe package index has no fitting file for Python {version} on this system."
    if any(word in text for word in unreachable):
        return (
            f"{tail}\n\nThe package index could not be reached: check the network, or pip's index settings and proxy."
        )
    if "hash" in text:
        return f"{tail}\n\nA file is not the one the lock names; nothing of it was installed."
    return f"{tail}\n\npip could not install the requirements."


def _put_on_path(venv: Path) -> None:
    """Lets the environment import the package from this folder, and gives it the `mt5-bridge` command."""
    found = _quietly([str(interpreter(venv)), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"])
    if found.returncode != 0:
        raise SetupError(f"{interpreter(venv)} does not run:\n{found.stderr}".rstrip())
    (Path(found.stdout.strip()) / "mt5_bridge_checkout.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    if os.name == "nt":
        launcher = venv / "Scripts/mt5-bridge.bat"
        launcher.write_text('@"%~dp0python.exe" -m mt5_bridge %*\r\n', encoding="utf-8", newline="")
    else:
        launcher = venv / "bin/mt5-bridge"
        launcher.write_text('#!/bin/sh\nexec "$(dirname "$0")/python" -m mt5_bridge "$@"\n', encoding="utf-8")
        launcher.chmod(0o755)


def _remove(venv: Path) -> None:
    if not venv.exists():
        return
    if not (venv / "pyvenv.cfg").exists() and any(venv.iterdir()):
        raise SetupError(f"{venv} is there, but is no Python environment; move it away and run this again.")
    shutil.rmtree(venv)


def _quietly(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        return subprocess.CompletedProcess(list(command), 127, "", str(error))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1].strip()


@contextlib.contextmanager
def _one_at_a_time(venv: Path) -> Iterator[None]:
    """Two windows opened at once must not build into the same folder."""
    name = hashlib.sha256(str(venv).encode()).hexdigest()[:16]
    with open(Path(tempfile.gettempdir()) / f"mt5-bridge-{name}.lock", "a+b") as lock:
        _lock(lock.fileno())
        yield


def _lock(descriptor: int) -> None:
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    import msvcrt

    while True:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        except OSError:  # it gives up after ten seconds, we do not
            continue
        return
