"""The paper terminal's settings: plain names and texts in, one frozen value out. Nothing here reads the environment."""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.core.model import PAPER_LOGIN, MarginMode
from mt5_bridge.simulator.broker import Broker, read

DEFAULT_LOGIN = PAPER_LOGIN
DEFAULT_PASSWORD = "paper"  # noqa: S105 - the published password of the built-in paper account
DEFAULT_SERVER = "Paper-Demo"

_SYMBOL = re.compile(r"[^\W\d_]{6}(?=\d)|[^\W_]+")
"""Letters and digits, as in US500; but after a pair's six letters digits are a date."""
_DAY_S = 86_400
_SLOWEST, _FASTEST = Fraction(1, 1000), Fraction(10**6)
"""Beyond them walks begin before dates do, or a moment holds more ticks than memory."""
_UINT32, _UINT64 = (1 << 32) - 1, (1 << 64) - 1
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


_MOST_MONEY = Decimal(10) ** 12
"""Cents of more are no longer exact in the package's floats."""
_CURRENCY = re.compile(r"[A-Z][A-Z0-9]{2,7}")


class PaperConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the paper terminal behaves. `server_offset` is in seconds, `speed` multiplies the rate of ticks."""

    login: int = DEFAULT_LOGIN
    password: str = DEFAULT_PASSWORD
    server: str = DEFAULT_SERVER
    data_dir: Path | None = None
    """None: nothing is written, the account lives as long as the process."""
    ticks: tuple[tuple[str, Path], ...] = ()
    """Tick files as (symbol without suffix, path); empty: the files shipped with the package."""
    speed: Fraction = Fraction(1)
    seed: int = 0
    loop: bool = True
    real_sessions: bool = False
    balance: Decimal = Decimal(10000)
    currency: str = "USD"
    leverage: int = 100
    margin_mode: MarginMode = MarginMode.HEDGING
    suffix: str = ""
    server_offset: int = 7200
    server_zone: str | None = None
    """A time zone whose rules the server's clock follows, instead of the offset."""
    faults: Path | None = None
    broker: Broker = Broker()
    """The rules of account and symbols that differ from the catalogue's."""
    read_only: bool = False
    """Another process trades on this folder: show its market and account, write nothing."""


def parse(settings: Mapping[str, str]) -> PaperConfig:
    """Reads the settings by the names people use (`PAPER_*`, `MT5_*`, `DATA_DIR`); others are ignored.

    `PAPER_ROLE` is not for people: the process that only reads the past of a folder's market says `history`.

    Raises:
        SettingsError: one line per wrong value: name, fault, remedy.
    """
    reader = _Reader(settings)
    config = PaperConfig(
        login=reader.integer("MT5_LOGIN", reader.integer("MT5_ACCOUNT", DEFAULT_LOGIN, most=_UINT64), most=_UINT64),
        password=reader.text("MT5_PASSWORD", DEFAULT_PASSWORD),
        server=reader.text("MT5_SERVER", DEFAULT_SERVER),
        data_dir=reader.path("DATA_DIR"),
        ticks=reader.tick_files("PAPER_TICKS"),
        speed=reader.speed("PAPER_SPEED"),
        seed=reader.integer("PAPER_SEED", 0),
        loop=reader.flag("PAPER_LOOP", True),
        real_sessions=reader.choice("PAPER_SESSIONS", ("always", "real")) == "real",
        balance=reader.money("PAPER_BALANCE", Decimal(10000)),
        currency=reader.currency("PAPER_CURRENCY"),
        leverage=reader.integer("PAPER_LEVERAGE", 100, least=1, most=_UINT32),
        margin_mode=MarginMode(reader.choice("PAPER_MARGIN_MODE", ("hedging", "netting", "exchange"))),
        suffix=reader.text("PAPER_SYMBOL_SUFFIX", ""),
        server_offset=reader.integer("PAPER_SERVER_OFFSET", 7200, least=-_DAY_S, most=_DAY_S),
        server_zone=reader.zone("PAPER_SERVER_TIMEZONE"),
        faults=reader.path("PAPER_FAULTS"),
        broker=reader.broker("PAPER_SYMBOLS"),
        read_only=reader.choice("PAPER_ROLE", ("live", "history")) == "history",
    )
    if reader.faults:
        raise SettingsError("\n".join(reader.faults))
    return config


class _Reader:
    """Reads typed values and collects every fault, so that all are told at once."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self.faults: list[str] = []

    def text(self, name: str, default: str) -> str:
        return self._settings.get(name, "").strip() or default

    def path(self, name: str) -> Path | None:
        text = self.text(name, "")
        return Path(text).expanduser() if text else None

    def tick_files(self, name: str) -> tuple[tuple[str, Path], ...]:
        """`SYMBOL=path`, or a path whose name's first letters are the symbol."""
        files = []
        for part in filter(None, (piece.strip() for piece in self.text(name, "").split(","))):
            given, equals, rest = part.partition("=")
            path = Path(rest if equals else part)
            first = _SYMBOL.search(path.name.partition(".")[0])
            symbol = given.strip() if equals else first[0] if first else ""
            if not symbol:
                self.faults.append(f"{name}: {part!r} names no symbol; write SYMBOL=path")
            files.append((symbol.upper(), path))
        return tuple(files)

    def broker(self, name: str) -> Broker:
        path = self.path(name)
        try:
            return Broker() if path is None else read(path)
        except SettingsError as error:
            self.faults.append(str(error))
            return Broker()

    def integer(self, name: str, default: int, least: int = 0, most: int | None = None) -> int:
        text = self.text(name, str(default))
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
            self.faults.append(f"{name}: {text!r} is not a whole number {bounds}; give one or leave it out")
            return default
        return value

    def speed(self, name: str) -> Fraction:
        text = self.text(name, "1")
        try:
            value = Fraction(text)
        except (ValueError, ZeroDivisionError):
            value = Fraction(0)
        if not _SLOWEST <= value <= _FASTEST:
            self.faults.append(f"{name}: {text!r} is not a number from 0.001 to 1e6; give one such as 1 or 10")
            return Fraction(1)
        return value

    def currency(self, name: str) -> str:
        text = self.text(name, "USD").upper()
        if not _CURRENCY.fullmatch(text):
            self.faults.append(f"{name}: {text!r} is no currency; give its letters, such as USD or EUR")
            return "USD"
        return text

    def money(self, name: str, default: Decimal) -> Decimal:
        text = self.text(name, str(default))
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal(-1)
        if value.is_nan():
            value = Decimal(-1)
        if not 0 <= value <= _MOST_MONEY:
            self.faults.append(f"{name}: {text!r} is not an amount of money; give one such as 10000")
            return default
        return value

    def flag(self, name: str, default: bool) -> bool:
        text = self.text(name, str(default)).lower()
        if text not in _TRUE | _FALSE:
            self.faults.append(f"{name}: {text!r} is neither true nor false; give one of them")
            return default
        return text in _TRUE

    def zone(self, name: str) -> str | None:
        text = self.text(name, "")
        if not text:
            return None
        try:
            ZoneInfo(text)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self.faults.append(f"{name}: {text!r} is no time zone; give an IANA name such as Europe/Athens, or EET")
            return None
        return text

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        text = self.text(name, choices[0]).lower()
        if text not in choices:
            self.faults.append(f"{name}: {text!r} is unknown; give one of {', '.join(choices)}")
            return choices[0]
        return text
