"""What comes in: signals of every kind by topic and socket, and commands; all of it remembered, for the oracle."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from support.simulation.backend import Backend
from support.simulation.broker import MAX_AGE_MS, PARTITIONS, Broker
from support.simulation.world import World, spread

from mt5_bridge.core import wire
from mt5_bridge.core.model import Action
from mt5_bridge.core.times import iso
from mt5_bridge.redpanda.reader import Record

SYMBOLS = ("EURUSD", "USDJPY", "XAUUSD")
SKEW_MS = 2000
COMMENT = 25
OTHER_ACCOUNT = 777

Quotes = Callable[[str], tuple[float, float] | None]
Tickets = Callable[[], tuple[list[int], list[int]]]


@dataclass
class Signal:
    """A signal as it was made.

    Attributes:
        key: its key in the inbox, as far as that is known when it is made.
        sort: `inbox` (ours, whole, signed as it must be), `dead` (cannot be read), `skipped` (foreign or forged).
        tradable: nothing in itself forbids to execute it.
        made_msc: when it was made, UTC ms, by what the bridge can know; of several copies the latest.
        volume: lots asked for; None: not said.
        records: where it is on the topic.
    """

    key: str
    signal_id: str | None
    sort: str
    data: bytes
    whole: bytes | None
    signature: str | None
    tradable: bool
    action: Action | None = None
    dated: bool = False
    made_msc: int = 0
    ttl_ms: int = MAX_AGE_MS
    volume: float | None = None
    records: list[Record] = field(default_factory=list)
    frames: int = 0

    @property
    def opens(self) -> bool:
        return self.action is not None and self.action.opens


@dataclass
class Sent:
    """A command as it was sent."""

    name: str
    request_id: str
    data: dict[str, Any]


class Traffic:
    """Makes signals and commands at random.

    Args:
        quotes: bid and ask of a symbol now.
        tickets: of the positions and the pending orders there are.
        symbol_of: a position's symbol.
        hmac_key: SIGNAL_HMAC_KEY, None: signals are not signed.
        login: the account's.
    """

    def __init__(
        self,
        world: World,
        broker: Broker,
        backend: Backend,
        *,
        quotes: Quotes,
        tickets: Tickets,
        symbol_of: Callable[[int], str],
        hmac_key: str | None,
        login: int,
    ) -> None:
        self.world, self.broker, self.backend = world, broker, backend
        self.signals: dict[str, Signal] = {}
        """By the comment their orders carry."""
        self.commands: dict[str, Sent] = {}
        self._quotes, self._tickets, self._symbol_of = quotes, tickets, symbol_of
        self._hmac_key, self._login = hmac_key, login
        self._count = 0
        self.random = world.random("traffic")

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
            made = self._malformed()
        elif chance < 0.11:
            self.broker.append(
                random.randrange(PARTITIONS), None, key=b"EURUSD", timestamp_ms=self.world.now_ms()
            )  # a tombstone
            return
        else:
            made = self._well_formed()
        self._send(made)

    def burst(self) -> None:
        """Many at once: more than the rate allows."""
        for _ in range(self.random.randint(3, 12)):
            self._send(self._well_formed(plain=True))

    def _name(self) -> str:
        self._count += 1
        return f"s{self._count}"

    def _well_formed(self, *, plain: bool = False) -> Signal:
        random = self.random
        action = random.choice(_ACTIONS)
        fields = {"symbol": random.choice(SYMBOLS), "action": action.value, **self._asked(action)}
        if fields.get("position") in self._tickets()[0] and random.random() < 0.9:
            fields["symbol"] = self._symbol_of(fields["position"])
        name = self._name()
        if plain or random.random() < 0.95 or self._hmac_key is not None:
            fields["signal_id"] = name
        tradable, dated, made_msc = True, False, self.world.now_ms()
        chance = 1.0 if plain else random.random()
        if chance < 0.08:
            tradable, made_msc = False, made_msc - MAX_AGE_MS - random.randint(1, 600_000)
        elif chance < 0.14:
            tradable, made_msc = False, made_msc + SKEW_MS + random.randint(12_000, 600_000)
        elif chance < 0.18:
            fields["account"] = OTHER_ACCOUNT
        if not tradable or self._hmac_key is not None or random.random() < 0.4:
            fields["created_at"], dated = iso(made_msc), True
        if "account" not in fields and (self._hmac_key is not None or random.random() < 0.2):
            fields["account"] = self._login
        if random.random() < 0.1:
            fields["ttl_ms"] = random.randint(200, 8000)
        if random.random() < 0.2:
            fields["urgency"] = random.choice(("low", "high", "critical"))
        foreign = fields.get("account") == OTHER_ACCOUNT
        data = json.dumps(fields).encode()
        whole = json.dumps({"type": "trading_signal", "data": fields}).encode()
        forged = self._hmac_key is not None and not plain and random.random() < 0.1
        return Signal(
            key=str(fields.get("signal_id", "")),
            signal_id=fields.get("signal_id"),
            sort="skipped" if foreign or forged else "inbox",
            data=data,
            whole=whole,
            signature="forged" if forged else None,
            tradable=tradable and not (foreign or forged),
            action=action,
            dated=dated,
            made_msc=made_msc,
            ttl_ms=min(MAX_AGE_MS, fields.get("ttl_ms", MAX_AGE_MS)),
            volume=fields.get("volume"),
        )

    def _asked(self, action: Action) -> dict[str, Any]:
        random = self.random
        if action.opens:
            return self._opening(action)
        asked: dict[str, Any] = {}
        positions, orders = self._tickets()
        chance = random.random()
        if chance < 0.5 and positions:
            asked["position"] = random.choice(positions)
        elif chance < 0.75 and self.signals:
            opened = [s.signal_id for s in self.signals.values() if s.signal_id and s.opens]
            asked["target_signal_id"] = random.choice(opened[-8:]) if opened else "s0"
        if action is Action.CLOSE and random.random() < 0.4:
            asked["volume"] = random.choice((0.01, 0.03, 0.1))
        if action is Action.CANCEL:
            asked = {"order": random.choice(orders)} if orders else {"target_signal_id": "s1"}
        if action is Action.CLOSE_BY:
            asked = {"position": _pick(random, positions), "order": _pick(random, positions)}
        if action is Action.MODIFY:
            asked.setdefault("position", _pick(random, positions))
            asked["stop_loss"] = self._price_near(random.choice(SYMBOLS), random.choice((-1, 1)) * 0.004)
        return asked

    def _opening(self, action: Action) -> dict[str, Any]:
        random, side = self.random, 1 if action.value.startswith("BUY") else -1
        symbol = random.choice(SYMBOLS)
        asked: dict[str, Any] = {"symbol": symbol}
        level = 0.0
        if action.is_pending:
            level = side * spread(random, 0.0002, 0.004) * (-1 if "LIMIT" in action.value else 1)
            asked["price"] = self._price_near(symbol, level)
        if random.random() < 0.95:
            asked["stop_loss"] = self._price_near(symbol, level - side * spread(random, 0.0008, 0.01))
        if random.random() < 0.3:
            asked["take_profit"] = self._price_near(symbol, level + side * spread(random, 0.0008, 0.01))
        if random.random() < 0.85:
            asked["volume"] = random.choice((0.01, 0.02, 0.05, 0.1, 0.1, 0.2, 30.0))
        return asked

    def _price_near(self, symbol: str, share: float) -> float:
        quote = self._quotes(symbol)
        bid = 1.0 if quote is None else quote[0]
        return round(bid * (1 + share), 5 if bid < 20 else 3 if bid < 1000 else 2)

    def _malformed(self) -> Signal:
        name = self._name()
        template, named = self.random.choice(_MALFORMED)
        value = template.replace("NAME", name).encode("latin-1")
        return Signal(
            key=name,
            signal_id=name if named else None,
            sort="dead",
            data=b"",
            whole=value,
            signature=None,
            tradable=False,
        )

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
        request_id = f"r{self._count}-{signal.frames}"
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
            again = random.choice(list(self.commands.values())[-6:])
            self.backend.command(again.name, request_id=again.request_id, **again.data)
            return
        positions, orders = self._tickets()
        name = random.choice(_COMMANDS)
        data: dict[str, Any] = {}
        if name in ("close_position", "modify_position"):
            data["ticket"] = _pick(random, positions)
        if name == "close_position" and random.random() < 0.5:
            data["volume"] = random.choice((0.01, 0.02, 0.05))
        if name == "modify_position":
            data["stop_loss"] = self._price_near(random.choice(SYMBOLS), random.choice((-1, 1)) * 0.003)
        if name in ("cancel_order", "modify_order"):
            data["ticket"] = _pick(random, orders)
        if name == "modify_order":
            data["price"] = self._price_near(random.choice(SYMBOLS), random.choice((-1, 1)) * 0.003)
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

    def resume(self) -> None:
        """A person lifts whatever is latched."""
        self.order("resume_trading", reason="simulated", by="person", force=self.random.random() < 0.3)

    def order(self, name: str, **data: Any) -> None:
        """A new command with a `request_id` of its own."""
        self._count += 1
        request_id = f"c{self._count}"
        if self.backend.command(name, request_id=request_id, **data):
            self.commands[command_comment(request_id)] = Sent(name, request_id, data)


def command_comment(request_id: str, part: str = "") -> str:
    """The comment of the orders that a command leads to."""
    return ("cmd-" + hashlib.sha256(f"{request_id}\0{part}".encode()).hexdigest()[:24])[:COMMENT]


def _pick(random: Random, tickets: list[int]) -> int:
    return random.choice(tickets) if tickets else 1


_OPENINGS = (Action.BUY, Action.SELL)
_PENDINGS = (Action.BUY_LIMIT, Action.SELL_LIMIT, Action.BUY_STOP, Action.SELL_STOP)
_ACTIONS = (
    *_OPENINGS * 8, *_PENDINGS, *(Action.CLOSE,) * 9, *(Action.MODIFY,) * 2, Action.CANCEL, Action.CLOSE_BY
)  # fmt: skip
_COMMANDS = (
    "close_position", "close_position", "close_position", "modify_position", "cancel_order", "modify_order",
    "close_all", "reduce_only", "get_positions", "get_orders", "get_status", "get_history", "get_account",
)  # fmt: skip
_MALFORMED = (
    ("\xff\x00\x01", False),
    ('{"type":"trading_signal"', False),
    ('{"data":{"signal_id":"NAME","symbol":"EURUSD","action":"BUY"}}', True),
    ('{"type":"trading_signal","data":{"signal_id":"NAME","symbol":"EURUSD"}}', True),
    ('{"type":"trading_signal","data":{"signal_id":"NAME","symbol":"EURUSD","action":"HOLD"}}', True),
    ('{"type":"trading_signal","data":{"signal_id":"NAME","symbol":"EURUSD","action":"BUY","volume":-1}}', True),
    ('{"type":"trading_signal","data":{"signal_id":"NAME","symbol":"EURUSD","action":"BUY","volume":"x"}}', True),
    ('{"type":"trading_signal","data":{"signal_id":"NAME","symbol":"EURUSD","action":"BUY","volume":NaN}}', True),
    ('{"type":"other","data":{"signal_id":"NAME"}}', False),
    ("[]", False),
    ("", False),
)
