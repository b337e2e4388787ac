"""The examples of docs/backend.md, and a bridge with default topics for them to talk to."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from confluent_kafka.admin import AdminClient
from support.backend import Backend
from support.daemon import ROOT, Daemon, environment
from support.eventually import poll_until
from support.world import TOKEN

from mt5_bridge.demo.broker import EmbeddedBroker

WRITTEN = "127.0.0.1:19092"
"""The broker's address on the page."""
TOPICS = {"tick_data", "mt5_events", "trading_signals"}
"""kcat does not wait for a topic that is not there yet."""


@asynccontextmanager
async def bridge(folder: Path) -> AsyncIterator[str]:
    """A daemon that trades EURUSD on a broker of its own, its topics named as by default; the broker's address."""
    async with Backend(TOKEN) as backend:
        with EmbeddedBroker() as broker:
            settings = {"REDPANDA_BOOTSTRAP_SERVERS": broker.bootstrap, "BACKEND_WS_URL": backend.url}
            daemon = Daemon(folder, {**settings, "SYMBOLS": "EURUSD"})
            daemon.start()
            try:
                await backend.frame("positions", timeout=20.0)
                await asyncio.to_thread(poll_until, lambda: _topics(broker.bootstrap) >= TOPICS, 20.0)
                yield broker.bootstrap
                await daemon.stop()
            finally:
                daemon.close()


def _topics(bootstrap: str) -> set[str]:
    return set(AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=5.0).topics)


def example(language: str, bootstrap: str) -> str:
    """The one example in a language, for a broker."""
    page = (ROOT / "docs/backend.md").read_text(encoding="utf-8")
    [code] = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert WRITTEN in code
    return str(code).replace(WRITTEN, bootstrap)


async def run(command: Sequence[str], *, folder: Path, within: float = 40.0) -> str:
    """Runs a program to its end, which must be a good one; all it said."""
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=folder,
        env=environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=within,
        check=False,
    )
    said = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, said[-3000:]
    return said
