"""What a client wants to hear. Pure."""

from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any

import msgspec

from mt5_bridge.core.channels import Channel


class Wanted(msgspec.Struct, frozen=True):
    """The `data` of `subscribe` and `unsubscribe`.

    Attributes:
        channels: the channels meant; None: those that `symbols` imply.
        symbols: of ticks, those of these symbols only; naming some means the channel `ticks`.
    """

    channels: list[Channel] | None = None
    symbols: list[Annotated[str, msgspec.Meta(max_length=64)]] | None = None

    @property
    def named(self) -> frozenset[Channel]:
        """The channels meant."""
        implied = {Channel.TICKS} if self.symbols is not None else set()
        return frozenset(self.channels or ()) | implied


class Subscriptions(msgspec.Struct, frozen=True):
    """A client's subscriptions.

    Attributes:
        channels: the channels.
        symbols: the symbols whose ticks are wanted; None: all there are.
    """

    channels: frozenset[Channel] = frozenset()
    symbols: frozenset[str] | None = None

    def wants(self, channel: Channel, slot: str) -> bool:
        """Whether a frame of the channel (of ticks: of the symbol `slot`) is for this client."""
        return channel in self.channels and (
            channel is not Channel.TICKS or self.symbols is None or slot in self.symbols
        )

    def added(self, wanted: Wanted) -> "Subscriptions":
        """With more of them. Naming symbols adds to those named before; not naming any asks for all."""
        channels = self.channels | wanted.named
        if Channel.TICKS not in wanted.named:
            return Subscriptions(channels, self.symbols)
        if wanted.symbols is None:
            return Subscriptions(channels)
        before = self.symbols if self.symbols is not None and Channel.TICKS in self.channels else frozenset[str]()
        return Subscriptions(channels, before | frozenset(wanted.symbols))

    def removed(self, wanted: Wanted, known: Collection[str]) -> "Subscriptions":
        """With fewer of them. Naming symbols keeps the others of the channel; the last one gone ends it.

        Args:
            wanted: what to leave out.
            known: the symbols that are streamed, for a client that wants all but some.
        """
        if wanted.symbols is None:
            channels = self.channels - wanted.named
            return Subscriptions(channels, self.symbols if Channel.TICKS in channels else None)
        channels = self.channels - frozenset(wanted.channels or ()) | (self.channels & {Channel.TICKS})
        if Channel.TICKS not in channels:
            return Subscriptions(channels)
        left = (frozenset(known) if self.symbols is None else self.symbols) - frozenset(wanted.symbols)
        return Subscriptions(channels, left) if left else Subscriptions(channels - {Channel.TICKS})

    def data(self) -> dict[str, Any]:
        """As welcome and answers show them; `symbols` null: all."""
        symbols = None if self.symbols is None else sorted(self.symbols)
        return {"channels": ordered(self.channels), "symbols": symbols}


def ordered(channels: Iterable[Channel]) -> Sequence[str]:
    """Channels by name, in the order of the contract."""
    chosen = set(channels)
    return [channel.value for channel in Channel if channel in chosen]
