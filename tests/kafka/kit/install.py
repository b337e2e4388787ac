"""Fetch Apache Kafka's jars, to run real brokers for tests.

    python3 tests/kafka/kit/install.py       # 43 MB, half a minute; prints the home, does nothing when it is up to date

Home: `MT5_KAFKA`, by default `~/.cache/mt5-bridge-kafka`. Needs Java 17 or later, Maven and `openssl`:
Debian's `default-jre-headless`, `maven`, `openssl`. Standard library only. Maven resolves `pom.xml` beside this; what
it brings must have the names and hashes of `jars.sha256`, no more and no less.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = Path(os.environ.get("MT5_KAFKA", Path.home() / ".cache/mt5-bridge-kafka"))
JARS = HOME / "jars"
LIST = HERE / "jars.sha256"
TOOLS = {"java": "default-jre-headless", "mvn": "maven", "openssl": "openssl"}


def main() -> int:
    """Bring the home up to date; exit code 2 when the host lacks a tool, 1 when a jar is not the expected one."""
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    if missing:
        sys.stderr.write(f"install.py: missing Debian packages: {' '.join(missing)}\n")
        return 2
    HOME.mkdir(parents=True, exist_ok=True)
    import fcntl  # absent on Windows, where no broker is started

    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two installations into one home would spoil it
        stamp = hashlib.sha256(LIST.read_bytes()).hexdigest()
        done = HOME / "stamp"
        if not done.exists() or done.read_text() != stamp:
            fetch()
            wrong = differing()
            if wrong:
                sys.stderr.write(f"install.py: not the jars of {LIST.name}: {', '.join(wrong)}\n")
                return 1
            done.write_text(stamp)
    sys.stdout.write(f"{HOME}\n")
    return 0


def fetch() -> None:
    """Have Maven put the jars into the home, a fresh folder for them."""
    shutil.rmtree(JARS, ignore_errors=True)
    command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    done = subprocess.run(
        [*command, f"-DoutputDirectory={JARS}"], input="", capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"install.py: mvn ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")


def differing() -> list[str]:
    """Names of jars that are missing, unknown or of another content than `jars.sha256` says."""
    wanted = {name: digest for digest, name in (line.split() for line in LIST.read_text().splitlines())}
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in JARS.glob("*.jar")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


if __name__ == "__main__":
    sys.exit(main())
