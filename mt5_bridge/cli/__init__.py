"""The command line: `mt5-bridge`, `python -m mt5_bridge`, and the two entry scripts.

What starts a process of its own takes a short way, so that the daemon never loads what the other commands need.
Nothing is loaded before somebody listens to Ctrl+C.
"""

import sys

__all__ = ["main"]


def main(argv: list[str] | tuple[str, ...] | None = None) -> int:
    """Runs a command.

    Args:
        argv: arguments without the program's name; None: the process's own.

    Returns:
        The exit code: 0 ended as asked, 1 a defect or a failed check, 2 configuration, 3 terminal, 4 another instance.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if command == "run":
        from mt5_bridge.cli import daemon

        return daemon.main(rest)
    if command == "demo":
        from mt5_bridge.demo.run import run_demo

        return run_demo(rest)
    if command == "backend":
        from mt5_bridge.demo import backend

        return backend.main(rest)
    if command == "broker":
        from mt5_bridge.demo import broker

        return broker.main(rest)
    if command == "dashboard":
        from mt5_bridge.dashboard import run

        return run.main(rest)
    from mt5_bridge.cli import commands

    return commands.main(arguments)


def entry() -> None:
    """The `mt5-bridge` program."""
    from mt5_bridge.cli import interrupts

    interrupts.arm_for(sys.argv[1:])
    from mt5_bridge.cli.daemon import leave

    leave(main())
