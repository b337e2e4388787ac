"""How the commands speak with a person."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from loguru import logger
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mt5_bridge.cli import local, offline
from mt5_bridge.core.times import iso
from mt5_bridge.settings import Loaded

FAIL = "FAIL"
FAILED = 1


@contextmanager
def without_log() -> Iterator[None]:
    """Keeps log lines of what is only looked at out of the answer to a person."""
    logger.disable("mt5_bridge")
    try:
        yield
    finally:
        logger.enable("mt5_bridge")


def answered(answer: local.Answer) -> None:
    """Prints a daemon's answer.

    Raises:
        typer.Exit: it was a refusal.
    """
    if not answer.success:
        error = answer.error or {}
        sys.stderr.write(f"ERROR {error.get('code', 'failed')}: {error.get('message', '')}\n")
        raise typer.Exit(FAILED)
    for line in lines(answer.data):
        say(line)


def lines(data: Any, indent: str = "") -> list[str]:
    """A mapping as indented `name: value` lines."""
    if not isinstance(data, dict):
        return [f"{indent}{data}"]
    found: list[str] = []
    for name, value in data.items():
        if isinstance(value, dict) and value:
            found += [f"{indent}{name}:", *lines(value, indent + "  ")]
        else:
            found.append(f"{indent}{name}: {_plain(value)}")
    return found


def _plain(value: Any) -> str:
    if value is None or value in ({}, [], ""):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def words(latched: offline.Latched) -> str:
    """The latched state in a sentence or two."""
    halt = latched.halt
    text = f"Trading is {halt.state.value.upper()}"
    if halt.at_msc:
        text += f" since {iso(halt.at_msc)}, by {halt.by}: {halt.reason}"
    if latched.open_intents:
        text += f"\n{latched.open_intents} orders have an unknown outcome; the next start looks them up"
    return f"{text}\n{latched.problem}" if latched.problem else text


def warn(loaded: Loaded) -> None:
    """What a person should know about the settings."""
    sys.stderr.write("".join(f"WARNING {warning}\n" for warning in loaded.warnings))


def say(text: str) -> None:
    """Prints a line; what a pipe's encoding cannot hold is written out as an escape."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> None:
    """A table; without a terminal plain columns, so that nothing is cut."""
    console = Console()
    if not console.is_terminal:
        widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
        for row in [head, *body]:
            say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    table = Table(*head, box=None, pad_edge=False)
    for row in body:
        table.add_row(*(Text(cell, style="bold red" if cell == FAIL else "") for cell in row))
    console.print(table)


def ask(question: str, default: str, hidden: bool) -> str:
    """Puts a question; what is typed to a hidden one is not shown.

    Raises:
        EOFError: nobody is there to answer.
    """
    question = f"{question}{f' [{default}]' if default else ''}: "
    if hidden and sys.stdin.isatty():
        return getpass.getpass(question)
    sys.stdout.write(question)
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.strip() or default


def user_name() -> str:
    """Who sits at this PC."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "local"
