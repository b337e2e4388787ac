"""The reference backend in this process, on a port of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mt5_bridge.demo.backend import BackendConfig, ReferenceBackend

TOKEN = "a-token"


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[ReferenceBackend]:
    """One that listens until the block ends; `options` are those of its `BackendConfig`."""
    backend = ReferenceBackend(BackendConfig(host="127.0.0.1", port=0, token=TOKEN, **options))
    stop, listening = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(backend.run(stop, listening))
    await listening.wait()
    try:
        yield backend
    finally:
        stop.set()
        await task
