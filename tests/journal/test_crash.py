"""kill -9 in the middle of writing: every awaited commit is there afterwards, and none in part."""

import subprocess
import sys
from pathlib import Path

from mt5_bridge.journal import Journal

CHILD = """
import asyncio, sys
from pathlib import Path
from mt5_bridge.journal import Journal
from mt5_bridge.journal.changes import IntentOpened, OffsetMoved, SignalReceived

async def main():
    journal = await Journal.open(Path(sys.argv[1]))
    async def one(i):
        await journal.commit(
            SignalReceived(key=str(i), signal_id=str(i), source="t", account="", symbol="", action="",
                           payload=b"x" * 300, received_msc=i),
            IntentOpened(magic=i + 1, key=str(i), symbol="", action="", request=b"y" * 200, opened_msc=i, volume=0.1),
            OffsetMoved(topic="t", partition=0, next_offset=i + 1),
        )
        sys.stdout.write(f"{i}\\n")
        sys.stdout.flush()
    for start in range(0, 10**9, 10):
        await asyncio.gather(*[one(i) for i in range(start, start + 10)])

asyncio.run(main())
"""


async def test_what_was_awaited_is_there_after_kill_9(path: Path) -> None:
    for _ in range(3):
        promised = _run_and_kill(path, lines=300)
        journal = await Journal.open(path)
        stored = {signal.key for signal in await journal.waiting()}
        intents = {intent.key for intent in await journal.open_intents()}
        offsets = await journal.offsets("t")
        await journal.close()
        assert promised <= stored
        assert stored == intents  # nothing torn
        assert offsets == {0: max(int(key) for key in stored) + 1}
        for leftover in path.parent.glob("journal.db*"):
            leftover.unlink()


def _run_and_kill(path: Path, lines: int) -> set[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert child.stdout is not None
    promised = [child.stdout.readline() for _ in range(lines)]
    child.kill()
    promised += child.communicate()[0].splitlines(keepends=True)
    return {line.decode().strip() for line in promised if line.endswith(b"\n")}
