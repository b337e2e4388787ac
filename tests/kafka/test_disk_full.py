"""A broker whose disk is full ends itself; what it did not take waits in the terminal until there is room again."""

import asyncio
import subprocess
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path

import pytest
from support.books import burst, check_books
from support.eventually import eventually
from support.kafka import KafkaBroker
from support.world import check_ticks, world

LONG_S = 180.0
SIZE = "64m"
CHUNK = 65_536


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 MiB in memory; only root may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)], check=True, timeout=30)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=30)


def write_on(file: RawIOBase, size: int) -> None:
    while True:
        file.write(bytes(size))


def fill(disk: Path) -> Path:
    """A file that leaves no byte free."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (CHUNK, 1):
            with pytest.raises(OSError, match="No space left"):
                write_on(file, size)
    return ballast


async def test_full_and_emptied(tmp_path: Path, small_disk: Path) -> None:
    with KafkaBroker(tmp_path / "kafka", data=small_disk / "log") as broker:
        async with world(tmp_path, broker.bootstrap, make_topics=False, SIGNAL_MAX_AGE_MS="300000") as w:
            await w.start()
            await w.flowing(timeout=LONG_S)
            ids = await burst(w, 6)
            ballast = await asyncio.to_thread(fill, small_disk)
            await eventually(lambda: not broker.runs, LONG_S, "a broker that ended for want of room")
            assert "No space left" in broker.log
            published = len(w.topics.ticks)
            ballast.unlink()
            broker.kill()
            await asyncio.to_thread(broker.start)
            await w.flowing(timeout=LONG_S)
            ids += await burst(w, 6)
            await check_books(w, ids, LONG_S)
            await check_ticks(w)
            assert len(w.topics.ticks) > published
            await w.daemon.stop()
