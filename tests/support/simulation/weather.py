"""How bad the world is: drawn from the seed for the whole run, worse while a storm lasts, and calm at its end."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from support.simulation.world import World, spread

_LEVELS = (0.0, 0.0, 0.3, 1.0, 1.0, 3.0)
STORM = 6.0


@dataclass(frozen=True)
class Fate:
    """What happens to a call of the terminal's host: seconds until it is done, and until its answer is there."""

    before: float
    after: float
    hangs: bool = False
    dies: str = ""
    """`before` or `after` it is done the host ends by itself; empty: it does not."""


class Weather:
    """Chances and durations of every trouble.

    Attributes:
        calm: nothing goes wrong any more.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.calm = False
        self._until = {"storm": 0.0, "full": 0.0, "slow": 0.0, "deaf": 0.0, "late": 0.0}
        random = world.random("weather")
        self.level = {
            name: random.choice(_LEVELS)
            for name in ("slow", "hang", "host", "faults", "broker", "backend", "disk", "full", "fetch")
        }

    def blow(self, what: str, seconds: float) -> None:
        """Something bad begins, for a while: `storm`, `full` (the disk), `slow` (the disk), `deaf` (the terminal),
        `late` (every fill)."""
        self._until[what] = self.world.monotonic() + seconds

    def _blows(self, what: str) -> bool:
        return not self.calm and self.world.monotonic() < self._until[what]

    def strikes(self, what: str, chance: float, random: Random) -> bool:
        """Whether a trouble of that kind, of that chance on an ordinary day, happens now."""
        if self.calm:
            return False
        factor = self.level[what] * (STORM if self._blows("storm") else 1.0)
        return random.random() < chance * factor

    # --- the disk

    def disk_full(self) -> bool:
        """Whether nothing can be written."""
        return self._blows("full")

    def disk_pause(self) -> float:
        """Seconds until a write or a read of the journal is done."""
        random = self.world.random("disk")
        if self._blows("slow") or self.strikes("disk", 0.01, random):
            return spread(random, 0.05, 3.0)
        return spread(random, 0.0003, 0.01)

    def disk_answer(self) -> float:
        """Seconds from there until the loop hears of it."""
        return spread(self.world.random("disk"), 0.0001, 0.002)

    # --- the terminal

    def fate(self, op: str) -> Fate:
        """What becomes of a call of the host."""
        random = self.world.random("host")
        before, after = spread(random, 0.0002, 0.004), spread(random, 0.0002, 0.002)
        if self.strikes("slow", 0.02, random):
            before += spread(random, 0.01, 4.0)
        if self.strikes("slow", 0.02, random):
            after += spread(random, 0.01, 4.0)
        sends = 8.0 if op == "send" else 1.0
        hangs = self.strikes("hang", 0.001 * sends, random)
        dies = ""
        if self.strikes("host", 0.001 * sends, random):
            dies = random.choice(("before", "after"))
        return Fate(before, after, hangs, dies)

    def fault(self, function: str) -> dict[str, Any] | None:
        """A fault of the paper terminal for this call of its function; None: none."""
        random = self.world.random("faults")
        if function in _LISTS and self._blows("deaf") and random.random() < _DEAF:
            return {"kind": "none", "code": -1}
        if function == "order_send" and self._blows("late"):
            return {"kind": "late_fill", "seconds": spread(random, 0.5, 8.0), "retcode": random.choice(_SAY_NOTHING)}
        chance = _CHANCES.get(function, 0.0)
        if not chance or not self.strikes("faults", chance, random):
            return None
        return _FAULTS[function](random)


def _of_send(random: Random) -> dict[str, Any]:
    kind = random.choice(_SEND_KINDS)
    rule: dict[str, Any] = {"kind": kind}
    if kind == "retcode":
        rule |= {"retcode": random.choice(_RETCODES), "execute": False}
        if rule["retcode"] in (10011, 10012, 10031):
            rule["execute"] = random.random() < 0.5
    elif kind in ("none", "executed_then_none"):
        rule["code"] = random.choice((-1, -10001, -10002, -10005))
    elif kind == "late_fill":
        rule |= {"seconds": spread(random, 0.2, 6.0), "retcode": random.choice(_SAY_NOTHING)}
    elif kind == "partial_fill":
        rule["share"] = random.choice((0.3, 0.5, 0.8))
    elif kind in ("history_lag", "positions_lag", "orders_lag"):
        rule["seconds"] = spread(random, 0.1, 3.0)
    elif kind == "autotrading_off":
        rule["seconds"] = spread(random, 1.0, 30.0)
    elif kind == "terminal_restart":
        rule |= {"seconds": spread(random, 1.0, 30.0), "when": random.choice(("before", "after"))}
    return rule


def _of_list(random: Random) -> dict[str, Any]:
    if random.random() < 0.1:
        return {"kind": "terminal_restart", "seconds": spread(random, 1.0, 30.0), "when": "before"}
    return {"kind": "none", "code": random.choice((-1, -1, -1, -10001, -10005))}


def _of_quote(random: Random) -> dict[str, Any]:
    return random.choice(
        ({"kind": "zero_tick"}, {"kind": "none", "code": -1}, {"kind": "frozen_quotes", "seconds": 5.0})
    )


def _of_account(random: Random) -> dict[str, Any]:
    return {"kind": "none", "code": random.choice((-1, -10005))} if random.random() < 0.9 else {"kind": "account_swap"}


def _plain(random: Random) -> dict[str, Any]:
    return {"kind": "none", "code": -1}


_LISTS = ("positions_get", "orders_get")
_SAY_NOTHING = (10008, 10011, 10012, 10031)
_DEAF = 0.9
_SEND_KINDS = (
    "requote", "requote", "retcode", "retcode", "retcode", "none", "executed_then_none", "executed_then_none",
    "executed_then_timeout", "late_fill", "late_fill", "partial_fill", "partial_fill", "bare_done", "comment_rewritten",
    "history_lag", "positions_lag", "orders_lag", "autotrading_off", "terminal_restart",
)  # fmt: skip
_RETCODES = (10004, 10006, 10011, 10012, 10018, 10020, 10021, 10024, 10031, 10036, 10017)
_FAULTS: dict[str, Callable[[Random], dict[str, Any]]] = {
    "order_send": _of_send,
    "positions_get": _of_list,
    "orders_get": _of_list,
    "history_deals_get": _of_list,
    "history_orders_get": _of_list,
    "symbol_info_tick": _of_quote,
    "account_info": _of_account,
    "symbol_info": _plain,
    "order_calc_margin": _plain,
    "order_calc_profit": _plain,
    "copy_ticks_from": _plain,
    "initialize": lambda random: {"kind": "none", "code": -10005},
}
_CHANCES = dict.fromkeys(_FAULTS, 0.002) | {"order_send": 0.25, "initialize": 0.05, "account_info": 0.0005}
