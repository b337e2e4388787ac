"""Every setting: its name, kind and default. The attribute is the setting's name in lower case; None means off."""

import socket
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from mt5_bridge.core.bars import LENGTHS as TIMEFRAMES
from mt5_bridge.core.permission import ALL as PERMISSIONS
from mt5_bridge.settings import places
from mt5_bridge.settings.kinds import (
    Choice,
    Choices,
    Duration,
    Flag,
    PathText,
    Pattern,
    Pieces,
    Real,
    Secret,
    SecretUrl,
    Servers,
    Timeout,
    Url,
    Whole,
    Words,
    Zone,
)
from mt5_bridge.settings.secret import SecretStr

Bool = Annotated[bool, Flag()]
Count = Annotated[int | None, Whole(0, 1_000_000)]
Percent = Annotated[float | None, Real(0, 100, "(percent)", above=True)]
Points = Annotated[float | None, Real(0, 1e9, "(points)")]
Seconds = Annotated[float, Real(0, 86_400, "(seconds)", above=True)]
OptionalSeconds = Annotated[float | None, Real(0, 86_400 * 7, "(seconds)", above=True)]
Text = Annotated[str | None, Pattern(r"[^\x00-\x1f]{1,256}", "holds control characters or is too long", "shorten it")]
Port = Annotated[int, Whole(1, 65535)]
OptionalSecret = Annotated[SecretStr | None, Secret()]
Topic = Annotated[
    str, Pattern(r"[A-Za-z0-9._-]{1,249}", "is no topic name", "give up to 249 letters, digits, dots, dashes")
]
Timeframe = Annotated[str, Choice(*TIMEFRAMES)]
Identifier = Annotated[
    str, Pattern(r"[A-Za-z0-9._@-]{1,100}", "is no identifier", "give up to 100 letters, digits, dots, dashes")
]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the bridge was told, read once at the start."""

    # bridge
    bridge_id: Identifier = msgspec.field(default_factory=lambda: host_name())
    data_dir: Annotated[Path, PathText()] = msgspec.field(default_factory=places.user_data_dir)
    environment: Annotated[
        str | None, Pattern(r"[A-Za-z0-9_-]{1,40}", "is no part of a file name", "give a word such as production")
    ] = None
    log_level: Annotated[str, Choice("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")] = "INFO"
    debug_mode: Bool = False
    mode: Annotated[Literal["hybrid", "standard"], Choice("hybrid", "standard")] = "hybrid"

    # terminal
    terminal: Annotated[Literal["mt5", "paper"], Choice("mt5", "paper")] = "mt5"
    mt5_login: Annotated[int | None, Whole(1, 2**63 - 1)] = None
    mt5_password: OptionalSecret = None
    mt5_server: Text = None
    mt5_path: Annotated[Path | None, PathText()] = None
    mt5_timeout: Annotated[int, Timeout()] = 60_000
    """Milliseconds that `initialize` and `login` may take by the terminal's own count."""
    mt5_magic: Annotated[int, Whole(1, 2**20 - 1)] = 235
    mt5_server_timezone: Annotated[str | None, Zone()] = None
    mt5_history_host: Bool = True

    # paper
    paper_ticks: Annotated[tuple[str, ...], Pieces()] = ()
    paper_speed: Annotated[float, Real(0, 1e6, above=True)] = 1.0
    paper_seed: Annotated[int, Whole(0, 2**63 - 1)] = 0
    paper_loop: Bool = True
    paper_sessions: Annotated[Literal["always", "real"], Choice("always", "real")] = "always"
    paper_balance: Annotated[float, Real(0, 1e12)] = 10_000.0
    paper_currency: Annotated[str, Pattern(r"[A-Za-z]{3,8}", "is no currency", "give its code such as USD")] = "USD"
    paper_leverage: Annotated[int, Whole(1, 100_000)] = 100
    paper_margin_mode: Annotated[
        Literal["hedging", "netting", "exchange"], Choice("hedging", "netting", "exchange")
    ] = "hedging"
    paper_symbol_suffix: Annotated[
        str, Pattern(r"[^\s,]{1,16}", "is no suffix", "give up to 16 characters such as .m")
    ] = ""
    paper_server_offset: Annotated[int, Whole(-43_200, 50_400, "(seconds)")] = 7200
    paper_server_timezone: Annotated[str | None, Zone()] = None
    """A time zone whose rules the paper server's clock follows, instead of the offset."""
    paper_faults: Annotated[Path | None, PathText()] = None
    paper_symbols: Annotated[Path | None, PathText()] = None

    # Redpanda
    redpanda_bootstrap_servers: Annotated[str, Servers()] = "127.0.0.1:19092"
    redpanda_security_protocol: Annotated[str, Choice("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")] = "PLAINTEXT"
    redpanda_sasl_mechanism: Annotated[str, Choice("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")] = "SCRAM-SHA-256"
    redpanda_sasl_username: Text = None
    redpanda_sasl_password: OptionalSecret = None
    redpanda_ssl_ca_file: Annotated[Path | None, PathText()] = None
    redpanda_ssl_cert_file: Annotated[Path | None, PathText()] = None
    redpanda_ssl_key_file: Annotated[Path | None, PathText()] = None
    """None: the key is in the certificate's file."""
    redpanda_ssl_key_password: OptionalSecret = None
    redpanda_group_id: Annotated[
        str | None, Pattern(r"[^\s]{1,249}", "is no group id", "give a word such as mt5-bridge-1")
    ] = None
    """None: `mt5-bridge-{login}`, with the login the terminal answers."""
    redpanda_tick_topic: Topic = "tick_data"
    redpanda_bar_topic: Topic = "bar_data"
    redpanda_event_topic: Topic = "mt5_events"
    redpanda_signal_topic: Topic = "trading_signals"
    redpanda_create_topics: Bool = True
    redpanda_compression: Annotated[Literal["none", "lz4", "zstd"], Choice("none", "lz4", "zstd")] = "none"
    """Of what is sent."""

    # backend
    backend_ws_url: Annotated[str | None, Url("ws", "wss")] = None
    backend_api_url: Annotated[str | None, Url("http", "https")] = None
    backend_auth_token: OptionalSecret = None
    """Read anew before each connection, where it stands in a file or the keyring."""
    backend_ssl_ca_file: Annotated[Path | None, PathText()] = None
    """Who signed the backend's certificate; None: the platform's trusted roots. These four are read anew, too."""
    backend_ssl_cert_file: Annotated[Path | None, PathText()] = None
    backend_ssl_key_file: Annotated[Path | None, PathText()] = None
    """None: the key is in the certificate's file."""
    backend_ssl_key_password: OptionalSecret = None
    backend_permissions: Annotated[tuple[str, ...], Choices(*PERMISSIONS)] = PERMISSIONS
    """What commands over the WebSocket may do; a stop they may always."""
    account_interval: Seconds = 5.0
    heartbeat_interval: Seconds = 5.0
    backend_dead_after: OptionalSeconds = None

    # market data
    symbols: Annotated[tuple[str, ...], Words()] = ("EURUSD", "GBPUSD", "USDJPY", "XAUUSD")
    """What is streamed, FOREX_PAIRS and CRYPTO_PAIRS merged in."""
    forex_pairs: Annotated[tuple[str, ...], Words()] = ()
    crypto_pairs: Annotated[tuple[str, ...], Words()] = ()
    crypto_enabled: Bool = False
    forex_timeframe: Timeframe = "M15"
    crypto_timeframe: Timeframe = "M15"
    tick_hz: Annotated[float, Real(0, 100, "(per second)", above=True)] = 10.0
    tick_capture: Annotated[Literal["every", "latest"], Choice("every", "latest")] = "every"
    tick_backfill: Annotated[float, Duration()] = 0.0
    """Seconds of the past that a new symbol begins with."""
    bars: Annotated[tuple[str, ...], Choices(*TIMEFRAMES)] = ()
    """Timeframes whose bars are sent when they are over, of every symbol that is streamed."""

    # trading
    trading_enabled: Bool = False
    max_risk_percent: Percent = 2.0
    require_stop_loss: Bool = True
    max_daily_trades: Count = 10
    max_daily_loss_pct: Percent = 5.0
    trading_day_timezone: Annotated[str, Zone()] = "UTC"
    max_drawdown_pct: Percent = None
    max_open_risk_pct: Percent = None
    min_margin_level_pct: Annotated[float | None, Real(0, 1e6, "(percent)")] = None
    price_collar_pct: Percent = None
    max_simultaneous_trades: Count = None
    max_positions_per_symbol: Count = None
    max_positions_forex: Count = None
    max_positions_metal: Count = None
    max_positions_index: Count = None
    max_positions_crypto: Count = None
    max_volume: Annotated[float | None, Real(0, 1e6, "(lots)", above=True)] = 10.0
    max_spread_points: Points = None
    max_drift_points: Points = None
    max_orders_per_second: Annotated[float | None, Real(0, 10_000, above=True)] = 5.0
    throttle_latch: Annotated[int | None, Whole(1, 1_000_000)] = 20
    signal_max_age_ms: Annotated[int, Whole(1, 86_400_000, "(milliseconds)")] = 5000
    clock_skew_ms: Annotated[int, Whole(0, 600_000, "(milliseconds)")] = 2000
    signal_hmac_key: OptionalSecret = None
    signal_previous_hmac_key: OptionalSecret = None
    """Valid as well while the senders change over to SIGNAL_HMAC_KEY."""
    signal_require_account: Bool = False
    settle_window: Annotated[float, Real(1, 600, "(seconds)")] = 10.0
    simulation_mode: Bool = False

    # stop
    emergency_stop: Bool = False
    emergency_cancel_orders: Bool = True
    emergency_close_positions: Bool = True
    emergency_scope: Annotated[Literal["all", "mine"], Choice("all", "mine")] = "all"
    stop_grace: Annotated[float, Real(0, 30, "(seconds)")] = 2.0
    drawdown_action: Annotated[Literal["halt", "flatten"], Choice("halt", "flatten")] = "halt"
    backend_dead_action: Annotated[Literal["reduce", "halt", "flatten"], Choice("reduce", "halt", "flatten")] = "reduce"
    resume_remote: Bool = False
    break_is_emergency: Bool = False
    deadman_action: Annotated[Literal["none", "cancel", "flatten"], Choice("none", "cancel", "flatten")] = "none"
    deadman_after: Annotated[float | None, Real(0.5, 86_400 * 7, "(seconds)")] = 30.0
    """Seconds of silence after which a daemon that still runs counts as dead; None: only its end does."""

    # gateway, stores
    gateway_enabled: Bool = False
    mt5_bridge_port: Port = 8001
    gateway_host: Annotated[
        str, Pattern(r"[A-Za-z0-9._:-]{1,253}", "is no address", "give 127.0.0.1, or the address to listen at")
    ] = "127.0.0.1"
    gateway_token: OptionalSecret = None
    """May do everything."""
    gateway_jwt_key: OptionalSecret = None
    """Signs tokens (JWT, HS256) with a subject, scopes and an end; `mt5-bridge token` makes them."""
    gateway_tls_cert: Annotated[Path | None, PathText()] = None
    gateway_tls_key: Annotated[Path | None, PathText()] = None
    """None: the key is in the certificate's file."""
    gateway_allow_public: Bool = False
    """Listen at an address that others can reach, without TLS."""
    gateway_allowed_hosts: Annotated[tuple[str, ...], Pieces()] = ()
    """Further names that a Host header may give."""
    gateway_allowed_origins: Annotated[tuple[str, ...], Pieces()] = ()
    """Other origins whose pages may ask, as browsers write them."""
    gateway_allow_connect: Bool = False
    """Whether POST /connect and /disconnect may change the account."""
    max_connections: Annotated[int, Whole(1, 100_000)] = 100
    rate_limit_requests: Annotated[int, Whole(1, 10_000_000, "(a minute)")] = 1000
    rate_limit_messages: Annotated[int, Whole(1, 1_000_000, "(a second)")] = 100
    database_url: Annotated[SecretStr | None, SecretUrl("postgresql", "postgres", "sqlite")] = None
    postgres_host: Text = None
    postgres_port: Port = 5432
    postgres_db: Text = None
    postgres_user: Text = None
    postgres_password: OptionalSecret = None
    redis_url: Annotated[SecretStr | None, SecretUrl("redis", "rediss")] = None
    redis_host: Text = None
    redis_port: Port = 6379
    price_fetch_interval: OptionalSeconds = None
    metrics_sync_interval: OptionalSeconds = None
    trades_sync_interval: OptionalSeconds = None
    max_workers: Annotated[int | None, Whole(1, 1024)] = None
    worker_timeout: OptionalSeconds = None

    @property
    def dlq_topic(self) -> str:
        """Where signals go that could not be accepted."""
        return f"{self.redpanda_signal_topic}.dlq"

    @property
    def journal_path(self) -> Path:
        """The journal's SQLite file."""
        return self.data_dir / places.JOURNAL

    @property
    def latch_path(self) -> Path:
        """The halt latch beside the journal."""
        return self.data_dir / places.LATCH

    @property
    def host_lock_path(self) -> Path:
        """Held by the terminal's live host, so that an old one that still acts and a new one never trade at once."""
        return self.data_dir / places.HOST_LOCK

    @property
    def control_path(self) -> Path:
        """Port and token of the running daemon, for `status`, `stop` and `resume`."""
        return self.data_dir / places.CONTROL

    @property
    def stop_file(self) -> Path:
        """A file that stops trading when somebody makes it."""
        return self.data_dir / places.STOP_FILE

    def paper(self) -> dict[str, str]:
        """What the paper terminal is told, by the settings' names. It holds the account's password in clear."""
        told = {
            "DATA_DIR": str(self.data_dir),
            "PAPER_TICKS": ",".join(self.paper_ticks),
            "PAPER_SPEED": str(self.paper_speed),
            "PAPER_SEED": str(self.paper_seed),
            "PAPER_LOOP": str(self.paper_loop).lower(),
            "PAPER_SESSIONS": self.paper_sessions,
            "PAPER_BALANCE": str(self.paper_balance),
            "PAPER_CURRENCY": self.paper_currency,
            "PAPER_LEVERAGE": str(self.paper_leverage),
            "PAPER_MARGIN_MODE": self.paper_margin_mode,
            "PAPER_SYMBOL_SUFFIX": self.paper_symbol_suffix,
            "PAPER_SERVER_OFFSET": str(self.paper_server_offset),
            "PAPER_SERVER_TIMEZONE": self.paper_server_timezone or "",
            "PAPER_FAULTS": str(self.paper_faults or ""),
            "PAPER_SYMBOLS": str(self.paper_symbols or ""),
            "MT5_LOGIN": str(self.mt5_login or ""),
            "MT5_PASSWORD": self.mt5_password.get_secret_value() if self.mt5_password else "",
            "MT5_SERVER": self.mt5_server or "",
        }
        return {name: value for name, value in told.items() if value}


def host_name() -> str:
    """This machine's name, in letters that fit headers and client ids."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in socket.gethostname())
    return name[:100] or "mt5-bridge"
