"""What comes in: signals of every kind by topic and socket, and commands; all of it remembered, for the oracle."""

import hashlib
from dataclasses import dataclass
from typing import Any

from support.simulation.backend import Backend
from support.simulation.books import tickets
from support.simulation.broker import PARTITIONS, Broker
from support.simulation.signals import SYMBOLS, Maker, Signal, pick, price_near
from support.simulation.world import World, spread

from mt5_bridge.core import wire

COMMENT = 25


@dataclass
class Sent:
    """A command as it was sent."""

    name: str
    request_id: str
    data: dict[str, Any]


class Traffic:
    """Sends signals and commands at random.

    Args:
        hmac_key: SIGNAL_HMAC_KEY, None: signals are not signed.
        login: the account's.
    """

    def __init__(self, world: World, broker: Broker, backend: Backend, *, hmac_key: str | None, login: int) -> None:
        self.world, self.broker, self.backend = world, broker, backend
        self.signals: dict[str, Signal] = {}
        """By the comment their orders carry."""
        self.commands: dict[str, Sent] = {}
        self.random = world.random("traffic")
        self._hmac_key = hmac_key
        self._make = Maker(world, self.random, self.signals, hmac_key=hmac_key, login=login)

    # --- signals

    def signal(self) -> None:
        """One more signal, or an earlier one again."""
        random = self.random
        known = [signal for signal in self.signals.values() if signal.signal_id]
        if known and random.random() < 0.15:
            self._send(random.choice(known[-10:]))
            return
        chance = random.random()
        if chance < 0.08:
            made = self._make.malformed()
        elif chance < 0.11:
            self.broker.append(
                random.randrange(PARTITIONS), None, key=b"EURUSD", timestamp_ms=self.world.now_ms()
            )  # a tombstone
            return
        else:
            made = self._make.well_formed()
        self._send(made)

    def burst(self) -> None:
        """Many at once: more than the rate allows."""
        for _ in range(self.random.randint(3, 12)):
            self._send(self._make.well_formed(plain=True))

    def flood(self) -> None:
        """Openings of one symbol, far more than the rate allows."""
        symbol = self.random.choice(SYMBOLS)
        for _ in range(self.random.randint(15, 40)):
            self._send(self._make.well_formed(plain=True, opens=symbol))

    def _send(self, signal: Signal) -> None:
        random = self.random
        by_topic = signal.sort == "dead" or random.random() < 0.7
        if by_topic:
            self._publish(signal)
        if not by_topic or (signal.signal_id and random.random() < 0.05):
            self._tell(signal)

    def _publish(self, signal: Signal) -> None:
        random = self.random
        assert signal.whole is not None
        headers: list[tuple[str, bytes]] = []
        if self._hmac_key is not None:
            signature = signal.signature or wire.signature_of(signal.whole, self._hmac_key)
            headers.append(("signature", signature.encode()))
        stamp = self.world.now_ms()
        record = self.broker.append(
            random.randrange(PARTITIONS), signal.whole, key=b"EURUSD", timestamp_ms=stamp, headers=headers
        )
        if not signal.key or signal.key.startswith("rec-"):
            signal.key = wire.derived_signal_id(record.topic, record.partition, record.offset, stamp, signal.whole)
        signal.records.append(record)
        if not signal.dated:
            signal.made_msc = stamp
        self.signals[signal.key[:COMMENT]] = signal

    def _tell(self, signal: Signal) -> None:
        if signal.sort == "dead":
            return
        request_id = f"r{self._make.count}-{signal.frames}"
        if not signal.signal_id:
            signal.key = f"req-{request_id}"
        head = f'{{"type":"trading_signal","request_id":"{request_id}"'
        if self._hmac_key is not None:
            head += f',"signature":"{signal.signature or wire.signature_of(signal.data, self._hmac_key)}"'
        if self.backend.send(head.encode() + b',"data":' + signal.data + b"}"):
            signal.frames += 1
            if not signal.dated:
                signal.made_msc = self.world.now_ms() + 100  # it counts from when it is received
            self.signals[signal.key[:COMMENT]] = signal

    # --- commands

    def command(self) -> None:
        """A command, or an earlier one again."""
        random = self.random
        if self.commands and random.random() < 0.25:
            self._order_again(random.choice(list(self.commands.values())[-6:]))
            return
        positions, orders = tickets()
        name = random.choice(_COMMANDS)
        data: dict[str, Any] = {}
        if name in ("close_position", "modify_position"):
            data["ticket"] = pick(random, positions)
        if name == "close_position" and random.random() < 0.5:
            data["volume"] = random.choice((0.01, 0.02, 0.05))
        if name == "modify_position":
            data["stop_loss"] = price_near(random.choice(SYMBOLS), random.choice((-1, 1)) * 0.003)
        if name in ("cancel_order", "modify_order"):
            data["ticket"] = pick(random, orders)
        if name == "modify_order":
            data["price"] = price_near(random.choice(SYMBOLS), random.choice((-1, 1)) * 0.003)
        if name == "close_all" and random.random() < 0.5:
            data["symbol"] = random.choice(SYMBOLS)
        self.order(name, **data)

    def stop(self) -> None:
        """An emergency stop."""
        random = self.random
        data: dict[str, Any] = {"reason": "simulated"}
        if random.random() < 0.2:
            data["close_positions"] = False
        if random.random() < 0.1:
            data["scope"] = random.choice(("mine", "all", 7))
        self.order("emergency_stop", **data)

    def stop_again(self) -> None:
        """The last emergency stop once more, or a new one."""
        stops = [sent for sent in self.commands.values() if sent.name == "emergency_stop"]
        if stops and self.random.random() < 0.6:
            self._order_again(stops[-1])
        else:
            self.stop()

    def resume(self) -> None:
        """A person lifts whatever is latched."""
        self.order("resume_trading", reason="simulated", by="person", force=self.random.random() < 0.5)

    def order(self, name: str, **data: Any) -> bool:
        """A new command with a `request_id` of its own; False: there is nobody to send it to."""
        self._make.count += 1
        request_id = f"c{self._make.count}"
        if not self.backend.command(name, request_id=request_id, **data):
            return False
        sent = self.commands[command_comment(request_id)] = Sent(name, request_id, data)
        if self.random.random() < (0.5 if "volume" in data else 0.2):
            self.world.after(spread(self.random, 0.001, 2.0), self._order_again, sent)
        return True

    def _order_again(self, sent: Sent) -> None:
        self.backend.command(sent.name, request_id=sent.request_id, **sent.data)


def command_comment(request_id: str, part: str = "") -> str:
    """The comment of the orders that a command leads to."""
    return ("cmd-" + hashlib.sha256(f"{request_id}\0{part}".encode()).hexdigest()[:24])[:COMMENT]


_COMMANDS = (
    "close_position", "close_position", "close_position", "modify_position", "cancel_order", "modify_order",
    "close_all", "reduce_only", "get_positions", "get_orders", "get_status", "get_history", "get_account",
)  # fmt: skip
