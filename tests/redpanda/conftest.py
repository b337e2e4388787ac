"""The brokers every test of the room may ask for."""

from support.broker import bootstrap, mock_broker, new_topic

__all__ = ["bootstrap", "mock_broker", "new_topic"]
