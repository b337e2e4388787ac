"""The log: for people on the console and in `mt5_bridge.log`, for machines in `mt5_bridge.jsonl`.

Nobody who logs ever waits: console and files have bounded, dropping queues and threads of their own. No secret is
written: every line passes the redactor.
"""

import logging
import re
import sys
from datetime import UTC
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec
from loguru import logger

from mt5_bridge.log.console import ConsoleWriter
from mt5_bridge.log.files import RotatingFile
from mt5_bridge.log.queue import DroppingQueue
from mt5_bridge.log.redact import Redactor, secrets_of
from mt5_bridge.log.stdlib import LibraryHandler
from mt5_bridge.settings import Settings, prepare_data_dir

if TYPE_CHECKING:
    from loguru import Message

__all__ = ["LogStats", "Logs", "Redactor", "open_log"]

HUMAN_BYTES = 10 * 2**20
MACHINE_BYTES = 20 * 2**20
KEEP = 5
CAPACITY = 10_000
CONSOLE_CAPACITY = 2_000
CLOSE_S = 1.0
_STAMP = len("2026-01-05 10:00:00.000")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Characters that move the cursor, change colours, or turn the order of letters round."""


class LogStats(msgspec.Struct, frozen=True):
    """What did not get through: dropped by a full queue, lost by a full disk, suppressed as too many alike."""

    console_dropped: int
    file_dropped: int
    file_lost: int
    file_errors: int
    suppressed: int


def _plain(value: object) -> object:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)


def _harmless(message: str) -> str:
    """A message whose quotations cannot pass for lines of their own, nor talk to the terminal that shows them."""
    if message.isprintable():
        return message
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], message).replace("\n", "\n    ")


class _Line:
    """One log line. It is made where it was logged and turned into text by the threads."""

    def __init__(self, message: "Message", redactor: Redactor) -> None:
        record = message.record
        self.level = record["level"].name
        self._redactor = redactor
        self._formatted = str(message)
        self._message = record["message"]
        self._time = record["time"]
        self._module = record["name"]
        # As they are now: whoever logs may change a list or map right after.
        self._fields = {name: _plain(value) for name, value in record["extra"].items()}
        error = record["exception"]
        self._error = f"{error.type.__name__}: {error.value}" if error and error.type else None

    @cached_property
    def human(self) -> str:
        stamp = self._time.isoformat(" ", "milliseconds")[:_STAMP]
        harmless = _harmless(self._message)
        formatted = self._formatted
        if harmless != self._message:
            formatted = formatted.replace(self._message, harmless, 1)
        return self._redactor.text(f"{stamp} {self.level:<8} {formatted}")

    @cached_property
    def machine(self) -> bytes:
        line: dict[str, object] = {
            "time": self._time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": self.level,
            "event": self._fields.pop("event", "log"),
            "message": self._redactor.text(self._message),
            "module": self._module,
        }
        if self._error:
            line["error"] = self._redactor.text(self._error)
            line["traceback"] = self.human
        for name, value in self._fields.items():
            line[name if name not in line else f"{name}_"] = self._redactor.field(name, value)
        return msgspec.json.encode(line) + b"\n"


class Logs:
    """The running sinks; a context manager. `close()` is idempotent and takes two seconds at most."""

    def __init__(self, folder: Path, *, level: str, redactor: Redactor, console: int | None, libraries: int) -> None:
        self._redactor = redactor
        self._human = RotatingFile(folder / "mt5_bridge.log", max_bytes=HUMAN_BYTES, keep=KEEP)
        self._machine = RotatingFile(folder / "mt5_bridge.jsonl", max_bytes=MACHINE_BYTES, keep=KEEP)
        self._complained: str | None = None
        self._files: DroppingQueue[_Line] = DroppingQueue("log-files", self._write_files, CAPACITY)
        self._console: DroppingQueue[_Line] | None = None
        if console is not None:
            self._screen = ConsoleWriter(console)
            self._console = DroppingQueue("log-console", self._write_console, CONSOLE_CAPACITY)
        self._library = LibraryHandler()
        self._library.setLevel(libraries)
        root = logging.getLogger()
        root.addHandler(self._library)
        self._root_level = root.level
        root.setLevel(libraries)
        # diagnose would print the values of variables, and with them passwords.
        self._handler: int | None = logger.add(
            self._take, level=level, format="{message}", backtrace=False, diagnose=False, catch=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def stats(self) -> LogStats:
        """Counters for health and summaries."""
        return LogStats(
            console_dropped=self._console.dropped if self._console else 0,
            file_dropped=self._files.dropped,
            file_lost=self._human.lost + self._machine.lost,
            file_errors=self._human.errors + self._machine.errors,
            suppressed=self._library.suppressed,
        )

    def hide(self, secret: str) -> None:
        """Keep one more secret out of what is written from now on."""
        self._redactor.add(secret)

    def close(self) -> None:
        """Writes what waits, as far as disk and console take it within a second each."""
        if self._handler is None:
            return
        logger.remove(self._handler)
        self._handler = None
        root = logging.getLogger()
        root.removeHandler(self._library)
        root.setLevel(self._root_level)
        if self._files.close(CLOSE_S):
            self._human.close()
            self._machine.close()
        if self._console:
            self._console.close(CLOSE_S)

    def _take(self, message: "Message") -> None:
        line = _Line(message, self._redactor)
        self._files.put(line)
        if self._console:
            self._console.put(line)

    def _write_files(self, lines: list[_Line], dropped: int) -> None:
        human = [line.human.encode("utf-8", "backslashreplace") for line in lines]
        if dropped:
            human.insert(0, f"… {dropped} lines were dropped: the disk is too slow\n".encode())
        self._human.write(human)
        self._machine.write([line.machine for line in lines])
        failure = self._human.failure or self._machine.failure
        if failure and failure != self._complained:
            logger.bind(event="log_file_failed").error("The log files cannot be written: {why}", why=failure)
        self._complained = failure

    def _write_console(self, lines: list[_Line], dropped: int) -> None:
        self._screen.write([(line.level, line.human) for line in lines], dropped)


def level_of(settings: Settings) -> str:
    """The least level that is logged."""
    return "DEBUG" if settings.debug_mode and settings.log_level != "TRACE" else settings.log_level


def open_log(settings: Settings, *, console: int | None = 2) -> Logs:
    """Starts logging as the settings say, instead of loguru's own default sink.

    Args:
        settings: LOG_LEVEL, DEBUG_MODE, DATA_DIR, and the secrets to keep out.
        console: file descriptor for people; None: no console.

    Raises:
        SettingsError: DATA_DIR cannot be written.
    """
    folder = prepare_data_dir(settings.data_dir)
    logger.remove()
    if sys.stderr is None:  # a program without console, under pythonw or as a service
        console = None
    return Logs(
        folder,
        level=level_of(settings),
        redactor=Redactor(secrets_of(settings)),
        console=console,
        libraries=logging.INFO if settings.debug_mode else logging.WARNING,
    )
