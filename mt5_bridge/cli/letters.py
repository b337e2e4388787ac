"""`mt5-bridge dlq`: what could not be accepted, shown so that neither its bytes nor its secrets do harm."""

import base64
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mt5_bridge.app import rooms
from mt5_bridge.core.errors import BrokerError, SettingsError
from mt5_bridge.core.times import iso
from mt5_bridge.log.redact import Redactor, secrets_of
from mt5_bridge.redpanda import letters
from mt5_bridge.redpanda.letters import Letter
from mt5_bridge.settings import Settings

HEAD = ("place", "time", "reason", "from", "key", "bytes", "detail")
_OURS = ("reason", "detail", "source", "bridge", "account", "sha256", "length")
_PLACE = re.compile(r"(\d{1,9}):(\d{1,18})")
_DUMP_WIDTH = 16


def place_of(text: str) -> tuple[int, int]:
    """Partition and offset.

    Raises:
        SettingsError: it is neither.
    """
    found = _PLACE.fullmatch(text)
    if found is None:
        raise SettingsError(f"{text!r} is no place; give partition:offset as mt5-bridge dlq shows it, such as 0:12")
    return int(found[1]), int(found[2])


async def newest(settings: Settings, limit: int) -> list[Letter]:
    """The last dead letters, newest first.

    Raises:
        BrokerError: the broker cannot be asked.
    """
    with _remedies():
        return await letters.newest(rooms.redpanda_config(settings), settings.dlq_topic, limit)


async def one(settings: Settings, partition: int, offset: int) -> Letter:
    """One of them, whole.

    Raises:
        BrokerError: there is none at that place, or the broker cannot be asked.
    """
    topic = settings.dlq_topic
    with _remedies():
        found = await letters.one(rooms.redpanda_config(settings), topic, partition, offset)
    if found is None:
        raise BrokerError(f"{topic} has no partition {partition}")
    if isinstance(found, Letter):
        return found
    begin, end = found
    there = f"it holds {begin} to {end - 1}" if end > begin else "it holds none"
    raise BrokerError(f"no dead letter at {partition}:{offset} of {topic}: {there}")


@contextmanager
def _remedies() -> Iterator[None]:
    try:
        yield
    except letters.NoTopic as error:
        remedy = (
            "the bridge makes it when it connects; if it did, see REDPANDA_SIGNAL_TOPIC and the broker's rules (ACL)"
        )
        raise BrokerError(f"{error}; {remedy}") from error
    except BrokerError as error:
        remedy = "start the broker (start-redpanda.sh) or mend the REDPANDA_… settings"
        raise BrokerError(str(error) if "; " in str(error) else f"{error}; {remedy}") from error


class Shown:
    """Makes dead letters fit to be seen: secrets blanked, and nothing that a terminal would obey."""

    def __init__(self, settings: Settings) -> None:
        # Bytes are searched as Latin-1, where a secret beyond ASCII looks different, as it does in UTF-16.
        known = secrets_of(settings)
        forms = [secret.encode(code).decode("latin-1") for secret in known for code in ("utf-8", "utf-16-le")]
        self._redactor = Redactor([*known, *forms])

    def row(self, letter: Letter) -> tuple[str, ...]:
        """A line of the overview, for the columns of `HEAD`."""
        facts = self.facts(letter)
        size = f"{facts['bytes']}{'+' if facts['cut'] else ''}"
        told = (facts["place"], facts["time"], facts["reason"], facts["source"], facts["key"], size, facts["detail"])
        return tuple("-" if part is None else str(part) for part in told)

    def facts(self, letter: Letter) -> dict[str, Any]:
        """What the overview tells. `bytes` is the size on the topic, `cut` whether the original was larger."""
        record = letter.record
        ours = {name: self.text(value) for name, value in record.headers if name in _OURS}  # the last of a name is ours
        return {
            "place": f"{record.partition}:{record.offset}",
            "time": iso(record.timestamp_ms) if record.timestamp_ms >= 0 else None,
            **{name: ours.get(name) for name in ("reason", "detail", "source", "bridge", "account")},
            "key": None if record.key is None else self.text(record.key),
            "bytes": letter.size,
            "cut": "sha256" in ours,
        }

    def whole(self, letter: Letter) -> dict[str, Any]:
        """All of a letter: `facts`, every header, and `value`, or `value_base64` where that is no UTF-8."""
        value = letter.record.value or b""
        headers = [
            {"name": self.text(name.encode()), "value": self._header(name, v)} for name, v in letter.record.headers
        ]
        text = _utf8(value)
        if text is None:
            return {
                **self.facts(letter),
                "headers": headers,
                "value_base64": base64.b64encode(self._blank(value)).decode(),
            }
        return {**self.facts(letter), "headers": headers, "value": self._redactor.text(text)}

    def lines(self, letter: Letter) -> Iterator[str]:
        """All of a letter for a person."""
        whole = self.whole(letter)
        for name in ("place", "time", "reason", "detail", "source", "key"):
            yield f"{name}: {'-' if whole[name] is None else whole[name]}"
        yield "headers:"
        yield from (f"  {header['name']}: {header['value']}" for header in whole["headers"])
        cut = ", the beginning of what was too large for the broker" if whole["cut"] else ""
        yield f"value, {letter.size} bytes{cut}:"
        if "value" in whole:
            yield from (f"  {_harmless(line)}" for line in whole["value"].split("\n"))
        else:
            yield from (f"  {line}" for line in _dump(self._blank(letter.record.value or b"")))

    def text(self, data: bytes) -> str:
        """Bytes as one harmless line."""
        text = _utf8(data)
        if text is None:
            return _harmless(self._blank(data).decode("utf-8", "backslashreplace"))
        return _harmless(self._redactor.text(text))

    def _header(self, name: str, value: bytes) -> str:
        return str(self._redactor.field(name, self.text(value)))

    def _blank(self, data: bytes) -> bytes:
        return self._redactor.text(data.decode("latin-1")).encode("latin-1")


def as_json(found: Sequence[Letter] | Letter, shown: Shown) -> str:
    """One JSON document, ASCII only."""
    made = shown.whole(found) if isinstance(found, Letter) else [shown.facts(letter) for letter in found]
    return json.dumps(made, indent=2)


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _harmless(text: str) -> str:
    """Text whose control characters, line ends and marks of direction are written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode(encoding="unicode_escape").decode() for c in text)


def _dump(data: bytes) -> Iterator[str]:
    """Offset, bytes in hex, and what of them is ASCII."""
    for start in range(0, len(data), _DUMP_WIDTH):
        some = data[start : start + _DUMP_WIDTH]
        ascii_ = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in some)
        yield f"{start:08x}  {some.hex(' '):<{_DUMP_WIDTH * 3}} {ascii_}"
