"""Seeing a clean-up through when its task is cancelled in the middle of it."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def finish(work: Coroutine[Any, Any, None], name: str) -> None:
    """Awaits `work`, which is bounded in time itself, to its end; a cancellation is raised after that."""
    task = asyncio.create_task(work, name=name)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
