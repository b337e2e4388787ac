"""Starts the daemon. Only what the daemon itself needs is imported here: no typer, no rich."""

import argparse
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import NoReturn

from mt5_bridge.cli import interrupts
from mt5_bridge.core.errors import SettingsError

OK, FAILED, CONFIGURATION = 0, 1, 2
"""Exit codes of the command line itself; 3 (terminal) and 4 (another instance) come from the daemon."""
LEAVE_S = 2.0


def run_daemon(mode: str | None = None, overrides: Mapping[str, str] | None = None) -> int:
    """Reads the settings and runs the bridge until it is told to stop.

    Args:
        mode: `hybrid` or `standard`; None: as the settings say.
        overrides: settings by name, stronger than any other source.

    Returns:
        The process's exit code.
    """
    try:
        from mt5_bridge import settings

        loaded = settings.load({**(overrides or {}), **({"MODE": mode} if mode else {})})
        from mt5_bridge.app import run_bridge

        return run_bridge(loaded)
    except SettingsError as error:
        return misconfigured(error)
    except KeyboardInterrupt:  # called from a program that does not listen to Ctrl+C before the bridge does
        return OK


def complain(text: str, code: int) -> int:
    """Tells a person why nothing was done, line by line, and gives `code` back."""
    sys.stderr.write("".join(f"ERROR {line}\n" for line in text.splitlines()))
    return code


def misconfigured(error: SettingsError) -> int:
    """Tells a person which settings are wrong, and what may be behind it."""
    sys.stderr.write("".join(f"WARNING {hint}\n" for hint in error.hints))
    return complain(str(error), CONFIGURATION)


def main(argv: Sequence[str]) -> int:
    """`mt5-bridge run`, with the arguments after the command's name."""
    parser = argparse.ArgumentParser(prog="mt5-bridge run", description="Run the bridge until Ctrl+C.")
    parser.add_argument("--mode", choices=("hybrid", "standard"), help="which channels to use; default: MODE")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, stronger than any other source"
    )
    args = parser.parse_args(argv)
    try:
        overrides = parse_overrides(args.set)
    except SettingsError as error:
        return complain(str(error), CONFIGURATION)
    return run_daemon(args.mode, overrides)


def parse_overrides(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` arguments as settings by name.

    Raises:
        SettingsError: no such setting, or no value.
    """
    from mt5_bridge.settings.names import canonical, near_miss

    found, faults = {}, []
    for pair in pairs:
        written, equals, text = pair.partition("=")
        name = canonical(written.strip())
        if not equals:
            faults.append(f"--set {written}: is not NAME=VALUE; write it so")
        elif name is None:
            meant = near_miss(written, 0.6)
            remedy = f"did you mean {meant}?" if meant else "mt5-bridge config show lists them"
            faults.append(f"{written}: no such setting (command line); {remedy}")
        else:
            found[name] = text
    if faults:
        raise SettingsError("\n".join(faults))
    return found


def entry(mode: str, arguments: Sequence[str]) -> NoReturn:
    """An entry script: it reads the settings and nothing else, so an argument is a mistake that must not trade."""
    if arguments:
        text = (
            f"This runs the bridge in {mode} mode and takes no arguments: the settings are in .env, see .env.example.\n"
        )
        asked = arguments[0] in ("-h", "--help")
        (sys.stdout if asked else sys.stderr).write(text)
        leave(OK if asked else CONFIGURATION)
    leave(run_daemon(mode))


def leave(code: int) -> NoReturn:
    """Ends the process: in the usual way, but in two seconds at most, whatever thread hangs in whatever call."""
    interrupts.ignore()
    guard = threading.Timer(LEAVE_S, os._exit, (code,))
    guard.daemon = True
    guard.start()
    sys.exit(code)
