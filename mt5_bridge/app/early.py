"""What a start needs first: the terminal's host takes longest to come up, and does so while the rest is loaded."""

import msgspec

from mt5_bridge.settings import SecretStr, Settings
from mt5_bridge.terminal.config import TerminalConfig
from mt5_bridge.terminal.raw import DeadManArgs

IDLE_S = 60.0
"""A history host that nobody asks for so long ends."""
BARS_IDLE_S = 900.0
"""Bars are asked for every ten minutes at least: a host started anew each time would cost more than one that waits."""


def reveal(secret: SecretStr | None) -> str | None:
    """A secret's text, for the room that must have it."""
    return None if secret is None else secret.get_secret_value()


def terminal_config(settings: Settings) -> TerminalConfig:
    """How the terminal is reached. The paper terminal takes its account from its own settings."""
    paper = settings.terminal == "paper"
    return TerminalConfig(
        backend=settings.terminal,
        login=settings.mt5_login,
        password=reveal(settings.mt5_password),
        server=settings.mt5_server,
        path=None if settings.mt5_path is None else str(settings.mt5_path),
        init_timeout_ms=settings.mt5_timeout,
        settings=settings.paper() if paper else {},
        server_timezone=settings.mt5_server_timezone,
        history_host=settings.mt5_history_host,
        history_idle=BARS_IDLE_S if settings.bars else IDLE_S,
    )


def daemon_config(settings: Settings) -> TerminalConfig:
    """`terminal_config` with what only the daemon's own session has: the folder's lock, and the dead-man's switch."""
    return msgspec.structs.replace(
        terminal_config(settings), lock=str(settings.host_lock_path), deadman=deadman_args(settings)
    )


def deadman_args(settings: Settings) -> DeadManArgs | None:
    """What the terminal's host does when the daemon is gone; None: nothing. SIMULATION_MODE sends no order at all."""
    if settings.deadman_action == "none" or settings.simulation_mode:
        return None
    return DeadManArgs(
        settings.deadman_action,
        settings.deadman_after,
        settings.emergency_scope,
        settings.mt5_magic,
        str(settings.data_dir),
    )
