"""How a session is set up: one frozen value."""

import msgspec

from mt5_bridge.core.backoff import BackoffPolicy
from mt5_bridge.terminal.raw import DeadManArgs


class TerminalConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A session's settings. Its `repr` keeps the password to itself.

    Attributes:
        backend: `mt5`, `paper`, or an importable module that speaks like the `MetaTrader5` package.
        login: the account; None takes whatever account the terminal is logged in to, and holds on to it.
        password: None uses the one the terminal has saved.
        server: the broker's server name; None takes whatever answers, and holds on to it.
        path: the terminal's program; None lets the package find it.
        init_timeout_ms: how long the package may wait for a terminal to become ready.
        portable: start the terminal in portable mode.
        settings: the paper terminal's settings by the names people use (`PAPER_*`, `MT5_*`, `DATA_DIR`).
        server_timezone: IANA name of the broker's time zone; None infers the offset from ticks.
        aliases: symbol names people use, by the broker's name.
        history_host: serve ticks and bars of the past from a host of their own.
        history_idle: seconds after which that host ends when nobody asks.
        connect_timeout: seconds that opening a session may take: a terminal may have to start first.
        preempt_after: with one host for all, seconds a CRITICAL call waits behind a read before the host is killed.
        breaker_threshold: failures in a row that open the circuit breaker.
        breaker_cooldown: seconds it stays open before a probe.
        backoff: how reconnects are spaced.
        python_path: more places for the host to import `backend` from.
        lock: a file; its lock keeps two live hosts of one data folder apart. None: nothing is locked.
        deadman: what the live host does when this process dies or hangs. None: nothing, it ends.
    """

    backend: str = "mt5"
    login: int | None = None
    password: str | None = None
    server: str | None = None
    path: str | None = None
    init_timeout_ms: int = 60_000
    portable: bool = False
    settings: dict[str, str] = {}
    server_timezone: str | None = None
    aliases: dict[str, str] = {}
    history_host: bool = True
    history_idle: float = 60.0
    connect_timeout: float = 120.0
    preempt_after: float = 0.25
    breaker_threshold: int = 5
    breaker_cooldown: float = 10.0
    backoff: BackoffPolicy = BackoffPolicy()
    python_path: tuple[str, ...] = ()
    lock: str | None = None
    deadman: DeadManArgs | None = None

    def __repr__(self) -> str:
        return f"TerminalConfig(backend={self.backend!r}, login={self.login}, server={self.server!r})"
