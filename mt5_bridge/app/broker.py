"""What only hybrid mode has: the producer, the topics that it needs, and the signals that come by one of them."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from loguru import logger

from mt5_bridge.app import rooms
from mt5_bridge.core.errors import BrokerError
from mt5_bridge.core.reminder import Reminder
from mt5_bridge.flows.signals import Intake
from mt5_bridge.journal.journal import Journal
from mt5_bridge.redpanda import consumer, producer, topics
from mt5_bridge.redpanda.config import LinkState, OnState
from mt5_bridge.settings import Settings

_TOPIC_RETRY_S = 2.0
_TOPICS_LOOKED_AT_S = 5.0
_STOP_S = 1.0


class BrokerSide:
    """The bridge's side of Redpanda.

    Args:
        settings: what the bridge was told.
        on_state: called with each state of the producer, which stands for the channel's.
    """

    def __init__(self, settings: Settings, on_state: OnState) -> None:
        self._settings = settings
        self._config = rooms.redpanda_config(settings)
        self._told = Reminder()
        """What has been told of the broker: by the producer or by the signals' consumer, whichever saw it first."""
        self._signals = ""
        self.producer = producer.Producer(self._config, on_state=on_state, told=self._told)
        self.consumer: consumer.SignalConsumer | None = None

    def works(self, intake: Intake, journal: Journal, login: Callable[[], str]) -> dict[str, Coroutine[Any, Any, None]]:
        """What runs for as long as the bridge does, by name."""
        return {"topics": self.keep_topics(), "signals": self._consume(intake, journal, login)}

    def troubles(self) -> list[str]:
        """What does not work though the broker is there."""
        if not self.producer.connected:
            return []
        found = [f"topic {topic} takes nothing" for topic in self.producer.refusing]
        return found + ([self._signals] if self._signals else [])

    async def keep_topics(self) -> None:
        """Make what the broker lacks, at the start and when one is gone later: deleted, or the whole broker wiped."""
        if not self._settings.redpanda_create_topics:
            return
        await self._make_topics()
        while True:
            await asyncio.sleep(_TOPICS_LOOKED_AT_S)
            if self.troubles():
                await self._make_topics()

    async def _make_topics(self) -> None:
        told = ""
        while True:
            await self.producer.wait_connected()  # why there is no connection is the producer's to tell
            try:
                await topics.ensure_topics(self._config, rooms.topic_specs(self._settings))
            except (BrokerError, TimeoutError) as error:
                if str(error) != told:
                    told = str(error)
                    logger.bind(event="topics_missing").warning("Topics cannot be made yet: {e}", e=told or "timeout")
                await asyncio.sleep(_TOPIC_RETRY_S)
            else:
                return

    async def _consume(self, intake: Intake, journal: Journal, login: Callable[[], str]) -> None:
        await intake.login_known.wait()
        topic = self._settings.redpanda_signal_topic
        reader = self.consumer = consumer.SignalConsumer(
            self._config,
            topic,
            self._settings.redpanda_group_id or f"mt5-bridge-{login()}",
            await journal.offsets(topic),
            self._settings.signal_max_age_ms,
            on_state=self._signals_state,
            told=self._told,
            access=self.producer.access,
            on_reset=intake.position_lost,
        )

        def entered(behind: Mapping[tuple[str, int], int]) -> None:
            reader.commit({partition: offset for (_, partition), offset in behind.items()})

        reader.start()
        try:
            async with asyncio.TaskGroup() as group:
                async for batch in reader.records():
                    await intake.take(batch, group, entered)
        finally:
            await asyncio.shield(reader.stop(_STOP_S))

    def _signals_state(self, state: LinkState, detail: str) -> None:
        self._signals = "" if state is LinkState.CONNECTED else f"signals {state.value}: {detail}"
