"""The first moments of a program: whoever ends it while it is still loading ends it in peace, with its exit code.

Nothing but what the interpreter has loaded anyway is imported here, `signal` apart: the time that imports take is what
this is about.
"""

import os
import signal
import sys

PROGRAMS = frozenset({"run", "demo", "backend", "broker"})
"""Commands that run until they are told to end; the others answer Ctrl+C as any command does."""
BREAKS = ("SIGBREAK", "SIGQUIT")
"""Ctrl+Break on Windows; Ctrl+\\ where there is no such key."""
_UNPROVEN = 130


class Early:
    """Hears Ctrl+C, SIGTERM and Ctrl+Break (of the daemon also Ctrl+\\) until the program itself does.

    Nothing is open yet, so the process ends on the spot: an exception would surface in the midst of some import.

    Args:
        code: the exit code.
        keep_break: a break may mean an emergency stop, which needs the program: remembered for it in `pressed`.

    Attributes:
        pressed: the keys of a break were pressed. Who takes its signal over finds this object as the former handler.
    """

    def __init__(self, code: int = 0, *, keep_break: bool = False) -> None:
        self.pressed = False
        self._code = code
        self._keep_break = keep_break

    def arm(self) -> None:
        """Begin to listen; in the main thread."""
        for number in numbers(every=self._keep_break):
            signal.signal(number, self)

    def __call__(self, number: int, frame: object) -> None:
        """What the system calls."""
        if self._keep_break and number in (getattr(signal, name, None) for name in BREAKS):
            self.pressed = True
        else:
            os._exit(self._code)


def numbers(*, every: bool) -> list[int]:
    """The signals that ask a program to end, on this system; `every`: those that ask only the daemon as well."""
    names = ("SIGINT", "SIGTERM", *(BREAKS if every else BREAKS[:1]))
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def ignore() -> None:
    """The program is ending: who asks it to cannot change its exit code any more."""
    for number in numbers(every=True):
        signal.signal(number, signal.SIG_IGN)


def arm_for(arguments: list[str]) -> None:
    """Listen, if the command line names a program.

    Args:
        arguments: of the command line, without the program's name.
    """
    command = arguments[0] if arguments else ""
    if command in PROGRAMS:
        # A demo of a given length vouches for what was seen in it.
        unproven = command == "demo" and any(argument.startswith("--du") for argument in arguments)
        Early(_UNPROVEN if unproven else 0, keep_break=command == "run").arm()


def start(mode: str) -> None:
    """An entry script, from its first moment to its last; does not return.

    Args:
        mode: hybrid or standard.
    """
    Early(keep_break=True).arm()
    from mt5_bridge.cli.daemon import entry

    entry(mode, sys.argv[1:])
