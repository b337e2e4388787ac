"""The Kafka-protocol side: a producer and a consumer that survive their broker, and the topics."""

from mt5_bridge.redpanda import cold as cold  # isort: split - before all that imports aiokafka
from mt5_bridge.redpanda.config import LinkState, RedpandaConfig
from mt5_bridge.redpanda.consumer import SignalConsumer
from mt5_bridge.redpanda.faults import RecordRefused, quiet_library
from mt5_bridge.redpanda.producer import Producer
from mt5_bridge.redpanda.reader import Record
from mt5_bridge.redpanda.topics import TopicSpec, ensure_topics

__all__ = [
    "LinkState",
    "Producer",
    "Record",
    "RecordRefused",
    "RedpandaConfig",
    "SignalConsumer",
    "TopicSpec",
    "ensure_topics",
    "quiet_library",
]
