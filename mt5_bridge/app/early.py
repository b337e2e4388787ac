"""What a start needs first: the terminal's host takes longest to come up, and does so while the rest is loaded."""

from mt5_bridge.settings import SecretStr, Settings
from mt5_bridge.terminal.config import TerminalConfig


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
    )
