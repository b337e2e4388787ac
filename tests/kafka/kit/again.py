"""The tests of the embedded broker again, on a broker of Apache Kafka.

    python tests/kafka/kit/again.py [pytest's arguments]

By default those of `redpanda` and the end-to-end ones where topics are the matter. What makes librdkafka's mock cluster
lie, hang or die from within still does so to that one: `tests/kafka` hurts a real broker.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.broker import TEST_BROKER  # noqa: E402  the tests' helpers are found by that
from support.kafka import KafkaBroker  # noqa: E402

ROOMS = ("redpanda", "app/test_bridge.py")
END_TO_END = ("actions", "bars", "crash", "denials", "schemas", "shutdown", "start")


def main(arguments: list[str]) -> int:
    """Exit code: pytest's."""
    chosen = [str(ROOT / "tests" / room) for room in ROOMS]
    chosen += [str(ROOT / f"tests/e2e/test_{name}.py") for name in END_TO_END]
    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder)) as broker:
        command = [sys.executable, "-m", "pytest", *(arguments or ["-n", "2", "--dist", "loadfile", *chosen])]
        env = {**os.environ, TEST_BROKER: broker.bootstrap}
        return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
