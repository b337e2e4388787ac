"""The console's writer."""

import os

import pytest

from mt5_bridge.log import console
from mt5_bridge.log.console import ConsoleWriter, prepare_windows_console


def written(writer_end: int, read: int) -> bytes:
    os.close(writer_end)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read()


def test_plain_lines_without_a_terminal() -> None:
    read, write = os.pipe()
    ConsoleWriter(write).write([("INFO", "one\n"), ("ERROR", "zwei ü\n")], 0)
    assert written(write, read) == "one\nzwei ü\n".encode()


def test_dropped_lines_are_told() -> None:
    read, write = os.pipe()
    ConsoleWriter(write).write([("INFO", "one\n")], 7)
    assert written(write, read).decode() == "… 7 lines were dropped: nobody read the console\none\n"


def test_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    monkeypatch.setattr(os, "isatty", lambda descriptor: True)
    monkeypatch.setattr(console, "prepare_windows_console", lambda: True)
    monkeypatch.setattr(console, "_encoding", lambda tty: "ascii")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ConsoleWriter(write).write([("ERROR", "bad ü\n"), ("INFO", "good\n")], 0)
    assert written(write, read) == b"\x1b[31mbad \\xfc\x1b[0m\ngood\n"


def test_a_console_that_goes_away_gets_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []

    def gone(descriptor: int, data: memoryview) -> int:
        calls.append(bytes(data))
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(os, "write", gone)
    writer = ConsoleWriter(2)
    writer.write([("INFO", "one\n")], 0)
    writer.write([("INFO", "two\n")], 0)
    assert calls == [b"one\n"]


def test_a_console_that_is_only_busy_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []

    def busy(descriptor: int, data: memoryview) -> int:
        calls.append(bytes(data))
        raise BlockingIOError(11, "busy")

    monkeypatch.setattr(os, "write", busy)
    writer = ConsoleWriter(2)
    writer.write([("INFO", "one\n")], 0)
    writer.write([("INFO", "two\n")], 0)
    assert calls == [b"one\n", b"two\n"]


def test_preparing_is_harmless_without_a_console() -> None:
    assert prepare_windows_console() in (True, False)
