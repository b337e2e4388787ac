"""What a setting may be: one class a kind of value. Each turns text into a value, or says the fault and the remedy."""

import math
import re
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mt5_bridge.settings.secret import SecretStr

OFF = frozenset({"off", "none", "null", "~"})
"""What switches an optional setting off that has a default."""
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class FaultError(ValueError):
    """A value is wrong: its fault, continuing the sentence "'value' …", and what to do."""

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(fault)
        self.fault = fault
        self.remedy = remedy


class Kind:
    """Base: any text."""

    secret: ClassVar[bool] = False

    def parse(self, text: str) -> Any:
        """The value of `text`, which is stripped and not empty.

        Raises:
            FaultError: the text is no such value.
        """
        return text


class Flag(Kind):
    """true or false, as people write them."""

    def parse(self, text: str) -> bool:
        low = text.lower()
        if low not in _TRUE | _FALSE:
            raise FaultError("is neither true nor false", "give true or false")
        return low in _TRUE


class Whole(Kind):
    """A whole number within bounds, both included."""

    def __init__(self, least: int, most: int, unit: str = "") -> None:
        self.least, self.most, self.unit = least, most, unit

    def parse(self, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise FaultError("is not a whole number", self._remedy()) from None
        if not self.least <= value <= self.most:
            raise FaultError("is out of range", self._remedy())
        return value

    def _remedy(self) -> str:
        return f"give a whole number from {self.least} to {self.most}{self.unit and ' ' + self.unit}"


class Real(Kind):
    """A finite number within bounds; `above` excludes the lower one."""

    def __init__(self, least: float, most: float, unit: str = "", *, above: bool = False) -> None:
        self.least, self.most, self.unit, self.above = least, most, unit, above

    def parse(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            hint = " (a decimal point, not a comma)" if re.fullmatch(r"-?\d+,\d+", text) else ""
            raise FaultError("is not a number", self._remedy() + hint) from None
        low_enough = value > self.least if self.above else value >= self.least
        if not (math.isfinite(value) and low_enough and value <= self.most):
            raise FaultError("is out of range", self._remedy())
        return value

    def _remedy(self) -> str:
        lower = f"above {self.least:g}, at most" if self.above else f"from {self.least:g} to"
        return f"give a number {lower} {self.most:g}{self.unit and ' ' + self.unit}"


class Duration(Kind):
    """A span of time: seconds, or a number with s, m, h or d."""

    _UNITS: ClassVar[dict[str, int]] = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

    def parse(self, text: str) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.lower())
        if not match:
            raise FaultError("is not a span of time", "give seconds, or a number with s, m, h or d such as 90, 15m, 2h")
        return float(match[1]) * self._UNITS[match[2]]


class Timeout(Kind):
    """Milliseconds, as the terminal's own API has it; a number below 1000 can only have meant seconds."""

    def parse(self, text: str) -> int:
        value = int(Whole(1, 600_000, "(milliseconds)").parse(text))
        return value * 1000 if value < 1000 else value


class Choice(Kind):
    """One of a few words; case does not matter."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def parse(self, text: str) -> str:
        for word in self.words:
            if word.lower() == text.lower():
                return word
        raise FaultError("is unknown", f"give one of {', '.join(self.words)}")


class Choices(Kind):
    """A list of a few words with commas between; case does not matter, duplicates are dropped, order is kept."""

    def __init__(self, *words: str) -> None:
        self._word = Choice(*words)
        self.words = words

    def parse(self, text: str) -> tuple[str, ...]:
        pieces = [piece.strip(" \t'\"") for piece in re.split(r"[,;\s]+", text.strip("[]() "))]
        try:
            return tuple(dict.fromkeys(self._word.parse(piece) for piece in pieces if piece))
        except FaultError:
            wrong = next(piece for piece in pieces if piece.lower() not in map(str.lower, self.words))
            remedy = f"give some of {', '.join(self.words)}, with commas between"
            raise FaultError(f"holds {wrong[:64]!r}, which is unknown", remedy) from None


class Pattern(Kind):
    """A text of a given form."""

    def __init__(self, pattern: str, fault: str, remedy: str) -> None:
        self._pattern, self._fault, self._remedy = re.compile(pattern), fault, remedy

    def parse(self, text: str) -> str:
        if not self._pattern.fullmatch(text):
            raise FaultError(self._fault, self._remedy)
        return text


class Words(Kind):
    """A list with commas between, as text or like JSON; duplicates are dropped, order is kept.

    Blanks separate only what looks like currency pairs: some brokers' symbol names hold blanks.
    """

    def parse(self, text: str) -> tuple[str, ...]:
        pieces = re.split(r"[,;\n]", text.strip("[]() "))
        words = [piece.strip(" \t'\"") for piece in pieces]
        if len(words) == 1 and all(re.fullmatch(r"[A-Z]{6}\S*", word) for word in words[0].split()):
            words = words[0].split()
        words = [word for word in words if word]
        for word in words:
            if len(word) > 64 or not word.isprintable():
                raise FaultError(f"holds {word[:64]!r}, which is no name", "give names with commas between")
        return tuple(dict.fromkeys(words))


class Pieces(Kind):
    """A list separated by commas only: pieces may hold blanks (paths)."""

    def parse(self, text: str) -> tuple[str, ...]:
        return tuple(piece.strip() for piece in text.split(",") if piece.strip())


class PathText(Kind):
    """A path; `~` is the home folder. Relative ones are made absolute by the loader."""

    def parse(self, text: str) -> Path:
        try:
            return Path(text).expanduser()
        except RuntimeError:
            raise FaultError("names a home folder that is not known", "give the path in full") from None


class Url(Kind):
    """An address with one of the given schemes."""

    def __init__(self, *schemes: str) -> None:
        self._schemes = schemes

    def parse(self, text: str) -> str:
        example = f"give an address such as {self._schemes[0]}://127.0.0.1:8000/"
        try:
            parts = urlsplit(text)
            port_ok = parts.port is None or parts.port > 0
        except ValueError:
            raise FaultError("is not an address", example) from None
        if parts.scheme.lower() not in self._schemes:
            raise FaultError(f"does not begin with {' or '.join(s + '://' for s in self._schemes)}", example)
        if not parts.hostname or not port_ok or re.search(r"\s", text):
            raise FaultError("is not an address", example)
        if self._schemes[0] == "ws" and "#" in text:
            raise FaultError("holds a #", "write %23 for it, or leave it out")
        if self._schemes[0] == "ws" and bool(parts.username) != bool(parts.password):
            raise FaultError("holds a user without password", "give both or neither")
        return text


class Servers(Kind):
    """Kafka bootstrap servers: `host:port` with commas between."""

    def parse(self, text: str) -> str:
        servers = [server for server in re.split(r"[,;\s]+", text) if server]
        for server in servers:
            match = re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})", server)
            if not match or not 0 < int(match[2]) < 65536:
                raise FaultError(f"holds {server!r}, which is not host:port", "give host:port, such as 127.0.0.1:19092")
        return ",".join(servers)


class Zone(Kind):
    """An IANA time zone."""

    def parse(self, text: str) -> str:
        try:
            ZoneInfo(text)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise FaultError("is not a known time zone", "give an IANA name such as UTC or Europe/Athens") from None
        return text


class Secret(Kind):
    """A password, token or key. `keyring` fetches it from the operating system's keyring."""

    secret: ClassVar[bool] = True

    def parse(self, text: str) -> SecretStr:
        if not text.isprintable():
            raise FaultError("holds control characters", "write it on one line, without tabs")
        return SecretStr(text)


class SecretUrl(Kind):
    """An address that may hold a password."""

    secret: ClassVar[bool] = True

    def __init__(self, *schemes: str) -> None:
        self._url = Url(*schemes)

    def parse(self, text: str) -> SecretStr:
        self._url.parse(text)
        return SecretStr(text)
