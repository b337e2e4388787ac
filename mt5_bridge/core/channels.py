"""What the bridge tells whoever listens, by channel."""

from collections.abc import Callable
from enum import StrEnum


class Channel(StrEnum):
    """What can be listened to."""

    TICKS = "ticks"
    """`tick_data`: of each symbol the latest, on change."""
    ACCOUNT = "account"
    """`account_info`: the latest."""
    POSITIONS = "positions"
    """`positions`: the latest list, on change."""
    EVENTS = "events"
    """Every event, exactly as it was journalled."""
    HEALTH = "health"
    """`heartbeat` and `connection_status`: the latest."""


Listener = Callable[[Channel, str, bytes], None]
"""Takes a message: its channel, its slot (of which a newer message replaces an older one; of ticks the symbol; of
events empty: none replaces another), the message itself. It must not wait, nor raise."""
