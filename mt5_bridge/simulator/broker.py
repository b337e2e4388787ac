"""The broker's own rules: of the account, and of single symbols in place of the catalogue's; a TOML file or a test's.

[account]
limit_orders = 200

[symbols."*"]           # every symbol
commission = 3.5

[symbols.EURUSD]        # and after it this one
execution = "instant"
filling_bits = ["fok", "ioc"]
"""

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import msgspec

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.simulator import constants as c
from mt5_bridge.simulator.market.catalogue import FILLING_BOC, FILLING_FOK, FILLING_IOC, SymbolSpec

NAME = "PAPER_SYMBOLS"

_NAMED = {
    "calc_mode": "SYMBOL_CALC_MODE_",
    "chart_mode": "SYMBOL_CHART_MODE_",
    "trade_mode": "SYMBOL_TRADE_MODE_",
    "execution": "SYMBOL_TRADE_EXECUTION_",
    "order_gtc_mode": "SYMBOL_ORDERS_",
    "swap_mode": "SYMBOL_SWAP_MODE_",
    "swap_rollover3days": "DAY_OF_WEEK_",
}
"""Fields that take a constant's name, in small letters and without this."""
_FLAGS = {
    "filling_bits": {"fok": FILLING_FOK, "ioc": FILLING_IOC, "boc": FILLING_BOC},
    "expiration_bits": {"gtc": 1, "day": 2, "specified": 4, "specified_day": 8},
    "order_mode": {"market": 1, "limit": 2, "stop": 4, "stop_limit": 8, "sl": 16, "tp": 32, "closeby": 64},
}
"""Fields that take a list of names."""
_FIXED = frozenset({"name", "digits", "base_price", "spread", "slot_ms", "volatility", "sessions"})
"""What makes a symbol's ticks; it is the catalogue's business."""
_ABOVE_ZERO = (
    "contract_size", "volume_min", "volume_max", "volume_step", "swap_year_days", "depth_levels", "depth_step"
)  # fmt: skip
_ALIGNED = 1e-6
_ANY_SIGN = frozenset({"swap_long", "swap_short"})


class AccountRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the broker allows an account. 0 is no limit."""

    limit_orders: int = 0
    """Pending orders at a time."""
    limit_positions: int = 0
    """Positions at a time; on a hedging account pendings count, too."""
    fifo_close: bool = False
    """Hedging: of a symbol only the oldest position may be closed."""
    margin_call: float = 50.0
    stop_out: float = 30.0
    stop_out_mode: Literal["percent", "money"] = "percent"
    """Whether both levels are percent of margin, or equity in account money."""
    stop_out_compensation: bool = False
    """Whether a balance below 0 is made good after a stop-out."""
    trade_allowed: bool = True
    trade_expert: bool = True
    """Whether the server takes orders of programs."""
    investor_password: str = ""
    """Opens the account to look at it; empty: there is none. Set when the account is opened."""


class Broker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules in force: of the account, and by symbol what differs from the catalogue."""

    account: AccountRules = AccountRules()
    symbols: dict[str, dict[str, Any]] = {}


def read(path: Path) -> Broker:
    """Reads a file of rules.

    Raises:
        SettingsError: it cannot be read, or something in it is wrong: one line for each fault.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{NAME}: {path} cannot be read ({error}); give the path of a TOML file") from error
    return build(told, str(path))


def build(told: Mapping[str, Any], source: str = "symbols") -> Broker:
    """Makes rules of plain values; symbols are looked at by `apply`, which knows them.

    Raises:
        SettingsError: something is wrong: its name, fault and remedy.
    """
    try:
        return msgspec.convert(told, Broker)
    except msgspec.ValidationError as error:
        raise SettingsError(
            f"{NAME}: {source}: {error}; it has tables [account] ({', '.join(AccountRules.__struct_fields__)}) "
            "and [symbols.NAME]"
        ) from error


def apply(specs: Iterable[SymbolSpec], broker: Broker, suffix: str = "") -> dict[str, SymbolSpec]:
    """The symbols with the broker's changes, by name. Tables name symbols with or without the suffix, or all by `*`.

    Raises:
        SettingsError: one line for each fault.
    """
    known = {spec.name: spec for spec in specs}
    faults: list[str] = []
    everywhere = broker.symbols.get("*", {})
    if everywhere:
        known = {name: _changed(spec, everywhere, "*", faults) for name, spec in known.items()}
        faults = list(dict.fromkeys(faults))
    for name, changes in broker.symbols.items():
        shown = name if name in known else name + suffix
        if shown in known:
            known[shown] = _changed(known[shown], changes, name, faults)
        elif name != "*":
            faults.append(f"{NAME}: [symbols.{name}]: no such symbol{_near(name, known)}; give one of the broker's")
    if faults:
        raise SettingsError("\n".join(faults))
    return known


def _changed(spec: SymbolSpec, changes: Mapping[str, Any], table: str, faults: list[str]) -> SymbolSpec:
    place = f"{NAME}: [symbols.{table}]"
    fields = set(SymbolSpec.__struct_fields__) - _FIXED
    values = {}
    for field, value in changes.items():
        if field not in fields:
            faults.append(f"{place} {field}: no such rule{_near(field, fields)}; leave it out")
            continue
        try:
            values[field] = _value(field, value)
        except ValueError as error:
            faults.append(f"{place} {field}: {error}")
    try:
        changed = msgspec.convert({**msgspec.structs.asdict(spec), **values}, SymbolSpec, from_attributes=True)
    except msgspec.ValidationError as error:
        faults.append(f"{place}: {error}; give a value of that kind")
        return spec
    faults.extend(f"{place} {fault}" for fault in _nonsense(changed))
    return changed


def _value(field: str, value: Any) -> Any:
    """Names become the numbers they stand for."""
    if field in _NAMED:
        prefix = _NAMED[field]
        names = {name.removeprefix(prefix).lower(): getattr(c, name) for name in vars(c) if name.startswith(prefix)}
        if isinstance(value, str) and value.lower() in names:
            return names[value.lower()]
        if isinstance(value, bool) or value not in names.values():
            raise ValueError(f"{value!r} is unknown; give one of {', '.join(names)}")
    elif field in _FLAGS:
        return _flags(_FLAGS[field], value)
    return value


def _flags(flags: Mapping[str, int], value: Any) -> Any:
    """A list of names as the sum of their bits, or that sum."""
    if isinstance(value, list):
        known = all(isinstance(name, str) and name in flags for name in value)
        bits = sum(flags[name] for name in set(value)) if known else -1
    else:
        bits = value
    if isinstance(bits, int) and not 0 <= bits <= sum(flags.values()):
        raise ValueError(f"{value!r} is unknown; give a list of {', '.join(flags)}")
    return bits


def _nonsense(spec: SymbolSpec) -> list[str]:
    """Values of the right kind that no symbol can have."""
    faults = []
    for field, value in msgspec.structs.asdict(spec).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if field in _ABOVE_ZERO and not value > 0:
            faults.append(f"{field}: {value!r} is not above 0; give a number that is")
        elif not isfinite(value):
            faults.append(f"{field}: {value!r} is no number; give one")
        elif field not in _ANY_SIGN and value < 0:
            faults.append(f"{field}: {value!r} is below 0; give 0 or more")
    if spec.volume_min > spec.volume_max:
        faults.append(f"volume_min: {spec.volume_min!r} is above volume_max {spec.volume_max!r}; swap them")
    if spec.requotes > 1:
        faults.append(f"requotes: {spec.requotes!r} is above 1; give a share such as 0.1")
    points = spec.tick_size * spec.scale
    if isfinite(points) and (abs(points - round(points)) > _ALIGNED or 0 < points < 1):
        faults.append(f"tick_size: {spec.tick_size!r} is no whole number of points; give a multiple of {spec.point}")
    elif isfinite(points) and spec.depth_volume and spec.depth_step % spec.step:
        faults.append(f"depth_step: {spec.depth_step} points are no whole ticks; give a multiple of {spec.step}")
    return faults


def _near(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f" (is {close[0]} meant?)" if close else ""
