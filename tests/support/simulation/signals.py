"""Makes signals of every kind: good, stale, from the future, foreign, forged, unreadable; it knows what each is."""

import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

from support.simulation.books import quote_of, symbol_of, tickets
from support.simulation.broker import MAX_AGE_MS
from support.simulation.world import World, spread

from mt5_bridge.core.model import Action
from mt5_bridge.core.times import iso
from mt5_bridge.redpanda.reader import Record

SYMBOLS = ("EURUSD", "USDJPY", "XAUUSD")
SKEW_MS = 2000
OTHER_ACCOUNT = 777


@dataclass
class Signal:
    """A signal as it was made.

    Attributes:
        key: its key in the inbox, as far as that is known when it is made.
        sort: `inbox` (ours, whole, signed as it must be), `dead` (cannot be read), `skipped` (foreign or forged).
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


class Maker:
    """Makes signals at random.

    Args:
        signals: those there are, by the comment their orders carry.
        hmac_key: SIGNAL_HMAC_KEY, None: signals are not signed.
        login: the account's.
    """

    def __init__(
        self, world: World, random: Random, signals: dict[str, Signal], *, hmac_key: str | None, login: int
    ) -> None:
        self.world, self.random, self.signals = world, random, signals
        self._hmac_key, self._login = hmac_key, login
        self.count = 0

    def name(self) -> str:
        """A name nobody has yet."""
        self.count += 1
        return f"s{self.count}"

    def well_formed(self, *, plain: bool = False, opens: str | None = None) -> Signal:
        """A signal that can be read; `plain`: nothing in itself speaks against it; `opens`: at once, on that symbol."""
        random = self.random
        action = random.choice(_OPENINGS if opens else _ACTIONS)
        fields = {"symbol": random.choice(SYMBOLS), "action": action.value, **self._asked(action, opens)}
        if fields.get("position") in tickets()[0] and random.random() < 0.9:
            fields["symbol"] = symbol_of(fields["position"])
        name = self.name()
        if plain or random.random() < 0.95 or self._hmac_key is not None:
            fields["signal_id"] = name
        dated, made_msc = False, self.world.now_ms()
        chance = 1.0 if plain else random.random()
        if chance < 0.08:
            dated, made_msc = True, made_msc - MAX_AGE_MS - random.randint(1, 600_000)
        elif chance < 0.14:
            dated, made_msc = True, made_msc + SKEW_MS + random.randint(12_000, 600_000)
        elif chance < 0.18:
            fields["account"] = OTHER_ACCOUNT
        if dated or self._hmac_key is not None or random.random() < 0.4:
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
            action=action,
            dated=dated,
            made_msc=made_msc,
            ttl_ms=min(MAX_AGE_MS, fields.get("ttl_ms", MAX_AGE_MS)),
            volume=fields.get("volume"),
        )

    def _asked(self, action: Action, symbol: str | None) -> dict[str, Any]:
        random = self.random
        if action.opens:
            return self._opening(action, symbol or random.choice(SYMBOLS))
        asked: dict[str, Any] = {}
        positions, orders = tickets()
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
            asked = {"position": pick(random, positions), "order": pick(random, positions)}
        if action is Action.MODIFY:
            asked.setdefault("position", pick(random, positions))
            asked["stop_loss"] = price_near(random.choice(SYMBOLS), random.choice((-1, 1)) * 0.004)
        return asked

    def _opening(self, action: Action, symbol: str) -> dict[str, Any]:
        random, side = self.random, 1 if action.value.startswith("BUY") else -1
        asked: dict[str, Any] = {"symbol": symbol}
        level = 0.0
        if action.is_pending:
            level = side * spread(random, 0.0002, 0.004) * (-1 if "LIMIT" in action.value else 1)
            asked["price"] = price_near(symbol, level)
        if random.random() < 0.95:
            asked["stop_loss"] = price_near(symbol, level - side * spread(random, 0.0008, 0.01))
        if random.random() < 0.3:
            asked["take_profit"] = price_near(symbol, level + side * spread(random, 0.0008, 0.01))
        if random.random() < 0.25:
            asked["trailing_stop_points"] = random.choice((20, 100, 400))
        if random.random() < 0.15:
            asked["break_even_points"] = random.choice((10, 60))
        if random.random() < 0.85:
            asked["volume"] = random.choice((0.01, 0.02, 0.05, 0.1, 0.1, 0.2, 30.0))
        return asked

    def malformed(self) -> Signal:
        """A record that cannot be read."""
        name = self.name()
        template, named = self.random.choice(_MALFORMED)
        value = template.replace("NAME", name).encode("latin-1")
        return Signal(
            key=name,
            signal_id=name if named else None,
            sort="dead",
            data=b"",
            whole=value,
            signature=None,
        )


def price_near(symbol: str, share: float) -> float:
    """A price that is away from the market's by a share of it."""
    bid, _ = quote_of(symbol) or (1.0, 1.0)
    return round(bid * (1 + share), 5 if bid < 20 else 3 if bid < 1000 else 2)


def pick(random: Random, tickets: list[int]) -> int:
    """One of them; 1, which is none, where there are none."""
    return random.choice(tickets) if tickets else 1


_OPENINGS = (Action.BUY, Action.SELL)
_PENDINGS = (Action.BUY_LIMIT, Action.SELL_LIMIT, Action.BUY_STOP, Action.SELL_STOP)
_ACTIONS = (
    *_OPENINGS * 8, *_PENDINGS, *(Action.CLOSE,) * 9, *(Action.MODIFY,) * 2, Action.CANCEL, Action.CLOSE_BY
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
