"""Settings → what each room is told. Rooms never see the settings themselves."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mt5_bridge.app.early import daemon_config as daemon_config
from mt5_bridge.app.early import deadman_args as deadman_args
from mt5_bridge.app.early import reveal as reveal
from mt5_bridge.app.early import terminal_config as terminal_config
from mt5_bridge.control.config import ControlConfig
from mt5_bridge.control.security import tls_context
from mt5_bridge.core.decision import Limits
from mt5_bridge.core.model import PAPER_LOGIN, AssetClass
from mt5_bridge.core.permission import Permission
from mt5_bridge.core.times import DAY
from mt5_bridge.flows.assembly import FlowConfig
from mt5_bridge.flows.emergency import StopOptions
from mt5_bridge.flows.outbox import REDPANDA, WEBSOCKET
from mt5_bridge.flows.watch import WatchConfig
from mt5_bridge.redpanda.config import RedpandaConfig
from mt5_bridge.settings import Settings
from mt5_bridge.settings.tls import TlsFiles

if TYPE_CHECKING:
    from mt5_bridge.redpanda.topics import TopicSpec

TICK_PARTITIONS = 6
TICK_RETENTION_MS = 7 * DAY
BAR_RETENTION_MS = 90 * DAY
EVENT_RETENTION_MS = 30 * DAY


def redpanda_config(settings: Settings) -> RedpandaConfig:
    """How the broker is reached."""
    return RedpandaConfig(
        bootstrap=settings.redpanda_bootstrap_servers,
        client_id=settings.bridge_id,
        security_protocol=settings.redpanda_security_protocol,
        sasl_mechanism=settings.redpanda_sasl_mechanism,
        username=settings.redpanda_sasl_username,
        password=reveal(settings.redpanda_sasl_password),
        ca_file=_text(settings.redpanda_ssl_ca_file),
        cert_file=_text(settings.redpanda_ssl_cert_file),
        key_file=_text(settings.redpanda_ssl_key_file),
        key_password=reveal(settings.redpanda_ssl_key_password),
        compression=settings.redpanda_compression,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def topic_specs(settings: Settings) -> "list[TopicSpec]":
    """The topics the bridge needs, for where the broker lacks them."""
    from mt5_bridge.redpanda.topics import TopicSpec  # standard mode must not pay for a Kafka client

    bars = ((settings.redpanda_bar_topic, TICK_PARTITIONS, BAR_RETENTION_MS),) if settings.bars else ()
    wanted = (
        (settings.redpanda_tick_topic, TICK_PARTITIONS, TICK_RETENTION_MS),
        *bars,
        (settings.redpanda_event_topic, 1, EVENT_RETENTION_MS),
        (settings.redpanda_signal_topic, 1, DAY),
        (settings.dlq_topic, 1, EVENT_RETENTION_MS),
    )
    return [TopicSpec(name=name, partitions=count, retention_ms=kept) for name, count, kept in wanted]


def control_config(settings: Settings) -> ControlConfig | None:
    """How the backend is reached; None without one.

    Raises:
        SettingsError: a certificate cannot be used.
    """
    if settings.backend_ws_url is None:
        return None
    return ControlConfig(
        url=settings.backend_ws_url,
        token=reveal(settings.backend_auth_token),
        tls=tls_context(backend_files(settings)),
    )


def backend_files(settings: Settings) -> TlsFiles:
    """What the connection to the backend is made sure with."""
    ca, cert, key = settings.backend_ssl_ca_file, settings.backend_ssl_cert_file, settings.backend_ssl_key_file
    return TlsFiles(
        ca=None if ca is None else str(ca),
        cert=None if cert is None else str(cert),
        key=None if key is None else str(key),
        key_password=reveal(settings.backend_ssl_key_password),
    )


def permissions(settings: Settings) -> frozenset[Permission]:
    """What the backend's commands may do."""
    return frozenset(map(Permission, settings.backend_permissions))


def limits(settings: Settings, login: int | None) -> Limits:
    """The trading settings as the guards read them."""
    by_class = {
        AssetClass.FOREX: settings.max_positions_forex,
        AssetClass.METAL: settings.max_positions_metal,
        AssetClass.INDEX: settings.max_positions_index,
        AssetClass.CRYPTO: settings.max_positions_crypto,
    }
    return Limits(
        trading_enabled=settings.trading_enabled,
        account=settings.mt5_login or login,
        require_account=settings.signal_require_account,
        max_risk_percent=settings.max_risk_percent,
        require_stop_loss=settings.require_stop_loss,
        max_daily_trades=settings.max_daily_trades,
        max_daily_loss_pct=settings.max_daily_loss_pct,
        max_drawdown_pct=settings.max_drawdown_pct,
        max_open_risk_pct=settings.max_open_risk_pct,
        min_margin_level_pct=settings.min_margin_level_pct,
        price_collar_pct=settings.price_collar_pct,
        max_simultaneous_trades=settings.max_simultaneous_trades,
        max_positions_per_symbol=settings.max_positions_per_symbol,
        max_positions_by_class={name: most for name, most in by_class.items() if most is not None},
        max_volume=settings.max_volume,
        max_spread_points=settings.max_spread_points,
        max_drift_points=settings.max_drift_points,
        max_orders_per_second=settings.max_orders_per_second,
        throttle_latch=settings.throttle_latch,
        signal_max_age_ms=settings.signal_max_age_ms,
        clock_skew_ms=settings.clock_skew_ms,
    )


def hmac_keys(settings: Settings) -> tuple[str, ...]:
    """The keys that signals may be signed with, the one to use first; none: they need no signature."""
    keys = (reveal(settings.signal_hmac_key), reveal(settings.signal_previous_hmac_key))
    return tuple(key for key in keys if key)


def flow_config(settings: Settings) -> FlowConfig:
    """What the flows are told."""
    hybrid = settings.mode == "hybrid"
    return FlowConfig(
        data_dir=settings.data_dir,
        watch=_watch_config(settings),
        zone=ZoneInfo(settings.trading_day_timezone),
        magic_base=settings.mt5_magic,
        symbols=settings.symbols,
        hybrid=hybrid,
        gateway=settings.gateway_enabled,
        channels=((REDPANDA,) if hybrid else ()) + ((WEBSOCKET,) if settings.backend_ws_url else ()),
        event_topic=settings.redpanda_event_topic,
        dlq_topic=settings.dlq_topic,
        tick_topic=settings.redpanda_tick_topic,
        bar_topic=settings.redpanda_bar_topic,
        bars=settings.bars,
        tick_hz=settings.tick_hz,
        latest_only=settings.tick_capture == "latest",
        backfill_ms=round(settings.tick_backfill * 1000),
        simulate=settings.simulation_mode,
        settle_window_s=settings.settle_window,
        stop=_stop_options(settings),
        stop_grace_s=settings.stop_grace,
        account_interval_s=settings.account_interval,
        hmac_keys=hmac_keys(settings),
        remote_resume=settings.resume_remote,
        permitted=permissions(settings),
    )


def _stop_options(settings: Settings) -> StopOptions:
    return StopOptions(
        cancel_orders=settings.emergency_cancel_orders,
        close_positions=settings.emergency_close_positions,
        scope=settings.emergency_scope,
    )


def _watch_config(settings: Settings) -> WatchConfig:
    return WatchConfig(
        heartbeat_s=settings.heartbeat_interval,
        data_dir=settings.data_dir,
        drawdown_flattens=settings.drawdown_action == "flatten",
        backend_dead_after_s=settings.backend_dead_after,
        backend_dead_action=settings.backend_dead_action,
    )


def login_of(settings: Settings) -> int | None:
    """The account's login as far as the settings tell it; None: whichever the terminal is logged in to."""
    return settings.mt5_login or (PAPER_LOGIN if settings.terminal == "paper" else None)


def account_of(settings: Settings) -> str | None:
    """The real account that one bridge on this PC may have; None on paper, or while it is not known."""
    if settings.terminal == "paper" or settings.mt5_login is None:
        return None
    return f"{settings.mt5_login}@{settings.mt5_server or ''}"


class Headers:
    """The headers on everything sent: `schema`, `bridge`, `account`; made once per schema and account."""

    def __init__(self, bridge_id: str, login: Callable[[], str]) -> None:
        self._bridge = bridge_id.encode()
        self._login = login
        self._made: dict[tuple[str, str], Sequence[tuple[str, bytes]]] = {}

    def __call__(self, type: str) -> Sequence[tuple[str, bytes]]:
        login = self._login()
        made = self._made.get((type, login))
        if made is None:
            made = (("schema", f"{type}/1".encode()), ("bridge", self._bridge), ("account", login.encode()))
            self._made[type, login] = made
        return made
