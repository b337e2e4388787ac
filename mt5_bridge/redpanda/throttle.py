"""A broker that bounds us (quotas) says after each answer how long it will not listen: so long nothing is asked of it.

It stops reading the connection meanwhile (KIP-219). A request sent all the same would look unanswered, and a broker
that only wants us slower would be taken for dead, left, and given the same records again.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from loguru import logger

from mt5_bridge.core.reminder import Reminder

_WORTH_TELLING_S = 1.0
_LONGEST_S = 60.0
"""More is not believed: while we heed a pause, nobody looks whether the broker still lives."""


class Throttle:
    """Stands before the `send` of one aiokafka client.

    Args:
        client: an `AIOKafkaClient`; its `send` is replaced.
        who: whose connection it is, for people.
        monotonic: clock in seconds.
    """

    def __init__(self, client: Any, who: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._send = client.send
        self._who = who
        self._until: dict[int, float] = {}
        self._reminder = Reminder()
        self.sending: set[asyncio.Task[Any]] = set()
        """Whoever has asked for a request to be sent, and has no answer yet."""
        client.send = self._paced

    def left(self) -> float:
        """Seconds until the last broker that bounds us listens again; 0 when none does."""
        return max(0.0, self.until() - self._monotonic())

    def until(self) -> float:
        """The monotonic time of that; in the past, or 0, when none does."""
        return max(self._until.values(), default=0.0)

    async def _paced(self, node: int, request: Any, **how: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self.sending.add(task)
        try:
            if (left := self._until.get(node, 0.0) - self._monotonic()) > 0:
                await asyncio.sleep(left)
            answer = await self._send(node, request, **how)
        finally:
            self.sending.discard(task)
        pause = min(getattr(answer, "throttle_time_ms", 0) / 1000, _LONGEST_S)
        if pause > 0:
            self._heed(node, pause)
        return answer

    def _heed(self, node: int, pause: float) -> None:
        now = self._monotonic()
        self._until[node] = now + pause
        if pause >= _WORTH_TELLING_S and self._reminder.due("throttled", now):
            logger.bind(event="throttled", seconds=pause).warning(
                "{who}: the broker's quota slows us down, for {seconds:.1f} s now", who=self._who, seconds=pause
            )
