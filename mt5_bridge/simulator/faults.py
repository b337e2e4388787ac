"""Trouble on demand: makes a call slow, dead, mute, false or fatal, by script or from a test.

A rule names a function of the package (or `*`), says when it strikes (`nth` call, from 1; or `probability`, drawn from
the seed; else every call), how often at most (`times`), and what it does (`kind`). The catalogue of kinds is in
`docs/paper-terminal.md`.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

import msgspec

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator import constants as c

Kind: TypeAlias = Literal[
    "delay", "hang", "none", "executed_then_none", "retcode", "crash",
    "autotrading_off", "autotrading_on", "account_swap", "clock_offset",
]  # fmt: skip

CRASH_EXIT_CODE = 86


class Fault(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """One rule.

    Attributes:
        function: name of the package's function, or `*` for all but `last_error`.
        kind: what happens.
        nth: strikes at this call of the function only, counted from 1.
        probability: strikes with this chance per call.
        times: strikes at most so often; None: once with `nth`, else without limit.
        seconds: of a delay; of a `clock_offset`, the server's new distance from UTC.
        code: `last_error` of a call that answers None.
        text: its text; empty: the usual one.
        retcode: what `order_send` or `order_check` answers instead.
        execute: with `retcode`, whether the request is executed all the same; its ticket is not told.
        when: of a crash or delay, `before` or `after` the call took effect.
        login: whose account answers after an `account_swap`.
    """

    function: str
    kind: Kind
    nth: int | None = None
    probability: float | None = None
    times: int | None = None
    seconds: float = 0.0
    code: int = c.RES_E_INTERNAL_FAIL_TIMEOUT
    text: str = ""
    retcode: int = c.TRADE_RETCODE_TIMEOUT
    execute: bool = False
    when: Literal["before", "after"] = "before"
    login: int = 0


class Script(msgspec.Struct, forbid_unknown_fields=True):
    """A file of rules."""

    faults: list[Fault]
    seed: int | None = None


class FaultInjector:
    """Counts calls and says which rules strike."""

    def __init__(
        self, seed: int = 0, *, sleep: Callable[[float], None] = time.sleep, die: Callable[[int], Any] = os._exit
    ) -> None:
        self._rules: list[_Rule] = []
        self._random = Random(seed)  # noqa: S311 - repeatable on purpose
        self._calls: dict[str, int] = {}
        self._sleep = sleep
        self._die = die

    def __bool__(self) -> bool:
        return bool(self._rules)

    def add(self, fault: Fault) -> None:
        """A rule holds from the next call on; `nth` counts from there."""
        self._rules.append(_Rule(fault))

    def clear(self) -> None:
        """No more trouble."""
        self._rules.clear()

    def load(self, path: Path) -> None:
        """Adds a script's rules: TOML by suffix `.toml`, else YAML.

        Raises:
            SettingsError: the file is missing or says something unknown.
        """
        try:
            script = read(path)
        except (OSError, ValueError, msgspec.ValidationError) as error:
            raise SettingsError(f"PAPER_FAULTS: {path}: {error}; see docs/paper-terminal.md for the format") from error
        if script.seed is not None:
            self._random = Random(script.seed)  # noqa: S311 - repeatable on purpose
        for fault in script.faults:
            self.add(fault)

    def strike(self, function: str) -> list[Fault]:
        """The faults that hit this call, in the order of the rules."""
        hit = [rule.fault for rule in self._rules if rule.strikes(function, self._random)]
        self._rules = [rule for rule in self._rules if not rule.spent]
        return hit

    def wait(self, seconds: float) -> None:
        """A delay."""
        self._sleep(seconds)

    def hang(self) -> None:
        """Never returns, as a terminal that shows a dialog."""
        while True:
            self._sleep(3600.0)

    def die(self) -> None:
        """Ends the process at once, without a last word."""
        self._die(CRASH_EXIT_CODE)


class _Rule:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._calls = 0
        limit = fault.times if fault.times is not None else (1 if fault.nth is not None else None)
        self._left = limit

    @property
    def spent(self) -> bool:
        return self._left is not None and self._left <= 0

    def strikes(self, function: str, random: Random) -> bool:
        fault = self.fault
        if self.spent or fault.function not in (function, "*"):
            return False
        self._calls += 1
        if fault.nth is not None and self._calls < fault.nth:
            return False
        if fault.probability is not None and random.random() >= fault.probability:
            return False
        if self._left is not None:
            self._left -= 1
        return True


def read(path: Path) -> Script:
    """Reads a script.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no YAML or TOML.
        msgspec.ValidationError: it says something unknown.
    """
    text = path.read_text(encoding="utf-8")
    raw: Mapping[str, Any]
    if path.suffix.lower() == ".toml":
        import tomllib  # late: nothing else in the process needs it

        raw = tomllib.loads(text)
    else:
        import yaml  # late, as above

        try:
            raw = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
    return msgspec.convert(raw, Script)
