"""Topics that take nothing from us for now: what is for them waits, and is tried again at a bounded rate.

A missing right or topic is mended by a person, sooner or later. Until then every try costs a producer session, which
carries the other topics too: so one knocks, and not each of hundreds of callers at ten times a second.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

from mt5_bridge.core.backoff import Backoff, BackoffPolicy
from mt5_bridge.core.reminder import Reminder

POLICY = BackoffPolicy(first=1.0, cap=5.0, floor=0.5)


@dataclass(slots=True)
class _Shut:
    backoff: Backoff
    until: float
    reminder: Reminder


class Gates:
    """Which topics are shut, and for how long.

    Args:
        random: jitter, uniform in [0, 1).
        monotonic: clock in seconds.
    """

    def __init__(
        self, random: Callable[[], float] = random.random, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._random = random
        self._monotonic = monotonic
        self._shut: dict[str, _Shut] = {}

    @property
    def refusing(self) -> tuple[str, ...]:
        """The topics that took nothing when they were last tried."""
        return tuple(self._shut)

    def shut(self, topic: str) -> bool:
        """Whether the topic may not be tried now."""
        shut = self._shut.get(topic)
        return shut is not None and shut.until > self._monotonic()

    async def open(self, topic: str) -> None:
        """Returns when the topic may be tried."""
        while (shut := self._shut.get(topic)) is not None:
            left = shut.until - self._monotonic()
            if left <= 0:
                return
            await asyncio.sleep(left)

    def refused(self, topic: str, why: str) -> None:
        """The topic took nothing."""
        now = self._monotonic()
        shut = self._shut.get(topic)
        if shut is None:
            shut = self._shut[topic] = _Shut(Backoff(POLICY), now, Reminder())
        if shut.until <= now:  # else another batch of the same try
            shut.backoff = shut.backoff.failed()
            shut.until = now + shut.backoff.delay(self._random())
        if shut.reminder.due(why, now):
            logger.bind(event="topic_refused", topic=topic, detail=why).error(
                "ERROR topic {topic} takes nothing from us, what is for it waits: {why}", topic=topic, why=why
            )

    def taken(self, topic: str) -> None:
        """The topic took something."""
        if self._shut.pop(topic, None) is not None:
            logger.bind(event="topic_open", topic=topic).info("Topic {topic} takes records again", topic=topic)
