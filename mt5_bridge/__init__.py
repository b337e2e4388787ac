"""MT5 Bridge: joins a MetaTrader 5 terminal to a Kafka-protocol broker and a WebSocket backend."""

__version__ = "0.1.0"
