"""Trouble on demand: which calls of the package are struck, by what, and how that is written down.

A rule names a function of the package (or `*`), says when it strikes (at the `nth` call, from 1; or with a
`probability` per call, drawn from the seed; else at every call), how often at most (`times`), and what it does
(`kind`). What each kind does is in `program`, `orders` and `shows`; the catalogue with all defaults is in
`docs/paper-terminal.md`.
"""

import os
import time
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import msgspec

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.faults.gil import sleep_holding_the_gil
from mt5_bridge.simulator.functions.manners import MANNERS

if TYPE_CHECKING:
    from mt5_bridge.simulator.faults.effects import Effect

Kind: TypeAlias = Literal[
    "delay", "hang", "crash", "none", "executed_then_none", "retcode", "executed_then_timeout", "timeout",
    "no_connection", "server_error", "requote", "late_fill", "partial_fill", "bare_done", "comment_rewritten",
    "comment_truncated", "autotrading_off", "autotrading_on", "history_lag", "positions_lag", "orders_lag",
    "zero_tick", "frozen_quotes", "duplicate_ticks", "shuffled_ticks", "clock_offset", "terminal_restart",
    "account_swap",
]  # fmt: skip

CRASH_EXIT_CODE = 86
_COMMON = frozenset({"kind", "function", "nth", "probability", "times"})
_UNTOUCHED = frozenset({"shutdown"})
"""Asks nothing of the terminal: `*` leaves it out, as it does `last_error`."""


class Fault(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One rule. `fault()` makes one with its kind's own defaults, and checks it.

    Attributes:
        kind: what happens.
        function: name of the package's function, or `*` for all but `last_error` and `shutdown`.
        nth: strikes at this call of the function only, counted from 1.
        probability: strikes with this chance per call.
        times: strikes at most so often; None: without limit.
        seconds: how long it lasts, on the PC's clock for a delay, on the market's for all others; of a
            `clock_offset`, the server's new distance from UTC.
        code: `last_error` of a call that answers None.
        text: its text, or a comment's; empty: the usual one, an empty comment.
        retcode: what `order_send` or `order_check` answers instead.
        execute: whether the request is executed all the same; its ticket is not told.
        when: `before` or `after` the call took effect.
        share: of the volume that is filled, of the ticks that are touched.
        length: letters that are left of a comment.
        symbol: the only one touched; empty: all.
        login: whose account answers after an `account_swap`.
        server: its server; empty: the same.
        gil: whether the call holds the interpreter's lock while it waits, as the official package does.
    """

    kind: Kind
    function: str = "*"
    nth: int | None = None
    probability: float | None = None
    times: int | None = None
    seconds: float = 0.0
    code: int = c.RES_E_INTERNAL_FAIL_TIMEOUT
    text: str = ""
    retcode: int = c.TRADE_RETCODE_TIMEOUT
    execute: bool = False
    when: Literal["before", "after"] = "before"
    share: float = 0.5
    length: int = 0
    symbol: str = ""
    login: int = 0
    server: str = ""
    gil: bool = False


class _Meaning(NamedTuple):
    """What a kind takes besides the common fields, with defaults; where it strikes; and whether it does so once only.

    `functions`: the only ones it makes sense for; the first is the default. Empty: any, by default all.
    """

    takes: Mapping[str, Any]
    functions: tuple[str, ...] = ()
    default: str = "*"
    once: bool = False


_SEND = ("order_send",)
_ORDERS = ("order_send", "order_check")
_TICKS = ("*", "copy_ticks_from", "copy_ticks_range")
_MEANINGS: dict[str, _Meaning] = {
    "delay": _Meaning({"seconds": 5.0, "when": "before", "gil": False}),
    "hang": _Meaning({"when": "before", "gil": False}, default="order_send"),
    "crash": _Meaning({"when": "after"}, default="order_send", once=True),
    "none": _Meaning({"code": c.RES_E_INTERNAL_FAIL_TIMEOUT, "text": ""}, default="order_send"),
    "executed_then_none": _Meaning({"code": c.RES_E_INTERNAL_FAIL_TIMEOUT, "text": ""}, default="order_send"),
    "retcode": _Meaning({"retcode": c.TRADE_RETCODE_TIMEOUT, "execute": False}, _ORDERS),
    "executed_then_timeout": _Meaning({"retcode": c.TRADE_RETCODE_TIMEOUT, "execute": True}, _SEND),
    "timeout": _Meaning({"retcode": c.TRADE_RETCODE_TIMEOUT, "execute": False}, _SEND),
    "no_connection": _Meaning({"retcode": c.TRADE_RETCODE_CONNECTION, "execute": False}, _SEND),
    "server_error": _Meaning({"retcode": c.TRADE_RETCODE_ERROR, "execute": False}, _SEND),
    "requote": _Meaning({"retcode": c.TRADE_RETCODE_REQUOTE}, _SEND, once=True),
    "late_fill": _Meaning({"seconds": 3.0, "retcode": c.TRADE_RETCODE_TIMEOUT}, _SEND, once=True),
    "partial_fill": _Meaning({"share": 0.5}, _SEND),
    "bare_done": _Meaning({"retcode": c.TRADE_RETCODE_DONE}, _SEND),
    "comment_rewritten": _Meaning({"text": ""}, _SEND),
    "comment_truncated": _Meaning({"length": 16}, _SEND),
    "autotrading_off": _Meaning({"seconds": 0.0}, default="order_send", once=True),
    "autotrading_on": _Meaning({}, once=True),
    "history_lag": _Meaning({"seconds": 3.0}, default="order_send"),
    "positions_lag": _Meaning({"seconds": 1.0}, default="order_send"),
    "orders_lag": _Meaning({"seconds": 1.0}, default="order_send"),
    "zero_tick": _Meaning({"symbol": ""}, ("symbol_info_tick", "symbol_info"), once=True),
    "frozen_quotes": _Meaning({"seconds": 60.0, "symbol": ""}, once=True),
    "duplicate_ticks": _Meaning({"share": 0.2, "symbol": ""}, _TICKS),
    "shuffled_ticks": _Meaning({"share": 0.2, "symbol": ""}, _TICKS),
    "clock_offset": _Meaning({"seconds": 10_800.0}, once=True),
    "terminal_restart": _Meaning(
        {"seconds": 20.0, "when": "before", "code": c.RES_E_INTERNAL_FAIL_TIMEOUT, "text": ""}, once=True
    ),
    "account_swap": _Meaning({"login": 0, "server": ""}, once=True),
}


def fault(**values: Any) -> Fault:
    """A rule with its kind's defaults filled in.

    Raises:
        ValueError: a name or value makes no sense; the message says which, and what would.
    """
    kind = values.get("kind")
    if kind not in _MEANINGS:
        raise ValueError(f"kind: {kind!r} is unknown{_near(kind, _MEANINGS)}; known are {', '.join(_MEANINGS)}")
    meaning = _MEANINGS[kind]
    known = _COMMON | meaning.takes.keys()
    for name in values:
        if name not in known:
            raise ValueError(f"{name}: {kind} knows no such thing{_near(name, known)}; it takes {_listed(meaning)}")
    function = values.get("function", meaning.functions[0] if meaning.functions else meaning.default)
    once = "nth" in values or (meaning.once and "probability" not in values)
    filled = {**meaning.takes, "times": 1 if once else None, **values, "function": function}
    try:
        result = msgspec.convert(filled, Fault)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    _check(result, meaning)
    return result


def _check(rule: Fault, meaning: _Meaning) -> None:
    if rule.function != "*" and rule.function not in MANNERS:
        raise ValueError(f"function: the package has no {rule.function!r}{_near(rule.function, MANNERS)}")
    if meaning.functions and rule.function not in meaning.functions:
        raise ValueError(f"function: {rule.kind} strikes {' or '.join(meaning.functions)}, not {rule.function}")
    if rule.nth is not None and rule.probability is not None:
        raise ValueError("nth, probability: give one of them, or neither for every call")
    for name, least, most in _LIMITS:
        value = getattr(rule, name)
        if value is not None and not least <= value <= most:
            raise ValueError(f"{name}: {value} is not from {least} to {most}")
    if rule.seconds < 0 and rule.kind != "clock_offset":
        raise ValueError(f"seconds: {rule.seconds:g} is below 0")
    if "share" in meaning.takes and rule.share == 0:
        raise ValueError("share: with 0 nothing would happen")


_DAY = 86_400
_LIMITS: tuple[tuple[str, float, float], ...] = (
    ("nth", 1, 10**9), ("times", 1, 10**9), ("probability", 0, 1), ("seconds", -_DAY, 365 * _DAY), ("share", 0, 1),
    ("length", 0, 31), ("retcode", 0, 2**32 - 1), ("code", -(2**31), 2**31 - 1), ("login", 0, 2**64 - 1),
)  # fmt: skip


def _near(name: Any, names: Any) -> str:
    close = get_close_matches(str(name), names, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _listed(meaning: _Meaning) -> str:
    return ", ".join(sorted(_COMMON | meaning.takes.keys()))


class Script(NamedTuple):
    """A file of rules."""

    faults: list[Fault]
    seed: int | None = None


class FaultInjector:
    """Counts calls, says which rules strike, and keeps what earlier ones left."""

    def __init__(
        self,
        seed: int = 0,
        *,
        sleep: Callable[[float], None] = time.sleep,
        hold: Callable[[float], None] = sleep_holding_the_gil,
        die: Callable[[int], Any] = os._exit,
    ) -> None:
        self.effects: list[Effect] = []
        """What strikes have left for a while."""
        self.seed = seed
        self._rules: list[_Rule] = []
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose
        self._sleep = sleep
        self._hold = hold
        self._die = die

    def __bool__(self) -> bool:
        return bool(self._rules or self.effects)

    def add(self, rule: Fault) -> None:
        """A rule holds from the next call on; `nth` counts from there."""
        self._rules.append(_Rule(rule))

    def clear(self) -> None:
        """No more trouble, and nothing left of it here."""
        self._rules.clear()
        self.effects.clear()

    def load(self, path: Path) -> None:
        """Adds a script's rules: TOML by suffix `.toml`, else YAML.

        Raises:
            SettingsError: the file is missing or says something that makes no sense.
        """
        try:
            script = read(path)
        except (OSError, ValueError) as error:
            raise SettingsError(f"PAPER_FAULTS: {path}: {error}; see docs/paper-terminal.md for the format") from error
        if script.seed is not None:
            self.seed = script.seed
            self._random = Random(script.seed)  # noqa: S311 - repeatable on purpose
        for rule in script.faults:
            self.add(rule)

    def strike(self, function: str, concerns: Callable[[str], bool] = bool) -> list[Fault]:
        """The faults that hit this call, in the order of the rules; `concerns` tells whether it names a symbol."""
        hit = [rule.fault for rule in self._rules if rule.strikes(function, self._random, concerns)]
        self._rules = [rule for rule in self._rules if not rule.spent]
        return hit

    def wait(self, seconds: float, *, gil: bool = False) -> None:
        """A delay."""
        (self._hold if gil else self._sleep)(seconds)

    def hang(self, *, gil: bool = False) -> None:
        """Never returns, as a terminal that shows a dialog."""
        while True:
            self.wait(3600.0, gil=gil)

    def die(self) -> None:
        """Ends the process at once, without a last word."""
        self._die(CRASH_EXIT_CODE)


class _Rule:
    def __init__(self, rule: Fault) -> None:
        self.fault = rule
        self._calls = 0
        self._left = rule.times

    @property
    def spent(self) -> bool:
        return self._left is not None and self._left <= 0

    def strikes(self, function: str, random: Random, concerns: Callable[[str], bool]) -> bool:
        rule = self.fault
        if self.spent or rule.function not in (function, "*") or function in _UNTOUCHED:
            return False
        if rule.symbol and not concerns(rule.symbol):
            return False
        self._calls += 1
        if rule.nth is not None and self._calls < rule.nth:
            return False
        if rule.probability is not None and random.random() >= rule.probability:
            return False
        if self._left is not None:
            self._left -= 1
        return True


def read(path: Path) -> Script:
    """Reads a script.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no YAML or TOML, or says something that makes no sense.
    """
    raw = _parsed(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("faults"), list):
        raise ValueError("there is no list named faults")  # noqa: TRY004 - the file is wrong, not the program
    for name in raw:
        if name not in ("faults", "seed"):
            raise ValueError(f"{name}: unknown{_near(name, ('faults', 'seed'))}; a script has faults and seed")
    seed = raw.get("seed")
    if seed is not None and (type(seed) is not int or seed < 0):
        raise ValueError(f"seed: {seed!r} is not a whole number of at least 0")
    return Script([_entry(place, entry) for place, entry in enumerate(raw["faults"], 1)], seed)


def _entry(place: int, entry: Any) -> Fault:
    if not isinstance(entry, dict):
        raise ValueError(f"fault {place}: {entry!r} is not a set of names and values")  # noqa: TRY004 - as above
    try:
        return fault(**{str(name): value for name, value in entry.items()})
    except ValueError as error:
        raise ValueError(f"fault {place}: {error}") from error


def _parsed(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix.lower() == ".toml":
        import tomllib  # late: nothing else in the process needs it

        return tomllib.loads(text)
    import yaml  # late, as above

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
