"""For backends: ticks and events in, signals and commands out, in a few lines.

topics = BridgeTopics("127.0.0.1:19092")
async with topics:
    await topics.send_signal({"symbol": "EURUSD", "action": "BUY", "volume": 0.1, "stop_loss": 1.05})
    async for event in topics.events():
        print(event.type, event.data)
"""

from mt5_bridge.client.connection import BridgeConnection, CommandFailed, Frame, bearer
from mt5_bridge.client.signals import encode_signal, sign
from mt5_bridge.client.stream import BridgeStream, Link, check_token
from mt5_bridge.client.topics import BridgeTopics, Message, TopicNames

__all__ = [
    "BridgeConnection",
    "BridgeStream",
    "BridgeTopics",
    "CommandFailed",
    "Frame",
    "Link",
    "Message",
    "TopicNames",
    "bearer",
    "check_token",
    "encode_signal",
    "sign",
]
