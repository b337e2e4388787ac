from pathlib import Path
from typing import Any

import msgspec
import pytest

from mt5_bridge.app import rooms
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.core.model import AssetClass
from mt5_bridge.flows import watch
from mt5_bridge.flows.bars import LOOK_AGAIN_MS
from mt5_bridge.flows.emergency import StopOptions
from mt5_bridge.settings import Settings, load

REAL = {"MT5_LOGIN": "77", "MT5_PASSWORD": "s3cret", "MT5_SERVER": "Broker-Live", "TERMINAL": "mt5"}


def settings(folder: Path, **env: str) -> Settings:
    """Settings as read; `mt5` is put in afterwards, for reading refuses it where there is none."""
    read = load(env={"DATA_DIR": str(folder), **env, "TERMINAL": "paper"}, cwd=folder).settings
    return msgspec.structs.replace(read, terminal=env.get("TERMINAL", "paper"))


def test_the_terminal_gets_its_account_and_the_paper_one_its_settings(tmp_path: Path) -> None:
    real = rooms.terminal_config(settings(tmp_path, **REAL, MT5_HISTORY_HOST="false"))
    assert (real.backend, real.login, real.password, real.server) == ("mt5", 77, "s3cret", "Broker-Live")
    assert real.settings == {}
    assert not real.history_host
    paper = rooms.terminal_config(settings(tmp_path, PAPER_BALANCE="500"))
    assert paper.backend == "paper"
    assert paper.settings


def test_only_the_daemons_own_session_is_locked_and_guarded(tmp_path: Path) -> None:
    none = rooms.daemon_config(settings(tmp_path))
    assert (none.lock, none.deadman) == (str(tmp_path / "host.lock"), None)
    env = {"DEADMAN_ACTION": "cancel", "DEADMAN_AFTER": "7", "EMERGENCY_SCOPE": "mine", "MT5_MAGIC": "9"}
    armed = rooms.daemon_config(settings(tmp_path, **env)).deadman
    assert armed is not None
    assert (armed.action, armed.after_s, armed.scope, armed.magic_base) == ("cancel", 7.0, "mine", 9)
    assert armed.folder == str(tmp_path)
    assert rooms.daemon_config(settings(tmp_path, **env, SIMULATION_MODE="true")).deadman is None
    other = rooms.terminal_config(settings(tmp_path, **env))
    assert (other.lock, other.deadman) == (None, None)


def test_the_broker_gets_its_credentials(tmp_path: Path) -> None:
    env = {
        "REDPANDA_BOOTSTRAP_SERVERS": "a:1,b:2",
        "REDPANDA_SECURITY_PROTOCOL": "SASL_SSL",
        "REDPANDA_SASL_MECHANISM": "SCRAM-SHA-256",
        "REDPANDA_SASL_USERNAME": "u",
        "REDPANDA_SASL_PASSWORD": "p",
        "BRIDGE_ID": "b1",
    }
    config = rooms.redpanda_config(settings(tmp_path, **env))
    assert (config.bootstrap, config.username, config.password, config.client_id) == ("a:1,b:2", "u", "p", "b1")
    assert config.ca_file is None


def test_the_topics_are_those_of_the_settings(tmp_path: Path) -> None:
    specs = rooms.topic_specs(settings(tmp_path, REDPANDA_TICK_TOPIC="t", REDPANDA_SIGNAL_TOPIC="s"))
    assert [spec.name for spec in specs] == ["t", "mt5_events", "s", "s.dlq"]
    specs = rooms.topic_specs(settings(tmp_path, BARS="m1, H1", REDPANDA_BAR_TOPIC="b"))
    assert [spec.name for spec in specs] == ["tick_data", "b", "mt5_events", "trading_signals", "trading_signals.dlq"]


def test_the_history_host_outlives_the_pauses_between_bars(tmp_path: Path) -> None:
    plain, with_bars = settings(tmp_path), settings(tmp_path, BARS="M1")
    assert rooms.terminal_config(plain).history_idle == 60
    assert rooms.terminal_config(with_bars).history_idle * 1000 > LOOK_AGAIN_MS


def test_the_backend_is_there_or_not(tmp_path: Path) -> None:
    assert rooms.control_config(settings(tmp_path)) is None
    config = rooms.control_config(settings(tmp_path, BACKEND_WS_URL="ws://127.0.0.1:1/x", BACKEND_AUTH_TOKEN="t"))
    assert config is not None
    assert (config.url, config.token) == ("ws://127.0.0.1:1/x", "t")
    assert "t" not in repr(config).split("token")[-1][:3]


def test_every_limit_reaches_the_guards(tmp_path: Path) -> None:
    env = {
        "TRADING_ENABLED": "true",
        "SIGNAL_REQUIRE_ACCOUNT": "true",
        "MAX_RISK_PERCENT": "1.5",
        "REQUIRE_STOP_LOSS": "false",
        "MAX_DAILY_TRADES": "3",
        "MAX_DAILY_LOSS_PCT": "4",
        "MAX_DRAWDOWN_PCT": "20",
        "MAX_OPEN_RISK_PCT": "6",
        "MIN_MARGIN_LEVEL_PCT": "200",
        "PRICE_COLLAR_PCT": "2",
        "MAX_SIMULTANEOUS_TRADES": "5",
        "MAX_POSITIONS_PER_SYMBOL": "2",
        "MAX_POSITIONS_METAL": "1",
        "MAX_VOLUME": "7",
        "MAX_SPREAD_POINTS": "30",
        "MAX_DRIFT_POINTS": "15",
        "MAX_ORDERS_PER_SECOND": "9",
        "THROTTLE_LATCH": "11",
        "SIGNAL_MAX_AGE_MS": "4000",
        "CLOCK_SKEW_MS": "1500",
    }
    limits = rooms.limits(settings(tmp_path, **env), 5)
    wanted: dict[str, Any] = {
        "trading_enabled": True,
        "account": 5,
        "require_account": True,
        "max_risk_percent": 1.5,
        "require_stop_loss": False,
        "max_daily_trades": 3,
        "max_daily_loss_pct": 4.0,
        "max_drawdown_pct": 20.0,
        "max_open_risk_pct": 6.0,
        "min_margin_level_pct": 200.0,
        "price_collar_pct": 2.0,
        "max_simultaneous_trades": 5,
        "max_positions_per_symbol": 2,
        "max_positions_by_class": {AssetClass.METAL: 1},
        "max_volume": 7.0,
        "max_spread_points": 30.0,
        "max_drift_points": 15.0,
        "max_orders_per_second": 9.0,
        "throttle_latch": 11,
        "signal_max_age_ms": 4000,
        "clock_skew_ms": 1500,
    }
    assert {name: getattr(limits, name) for name in limits.__struct_fields__} == wanted
    assert rooms.limits(settings(tmp_path, **REAL), 5).account == 77


def test_what_a_stop_does_and_the_watch_looks_for(tmp_path: Path) -> None:
    env = {
        "EMERGENCY_CANCEL_ORDERS": "false",
        "EMERGENCY_CLOSE_POSITIONS": "false",
        "EMERGENCY_SCOPE": "mine",
        "DRAWDOWN_ACTION": "flatten",
        "MAX_DRAWDOWN_PCT": "10",
        "BACKEND_WS_URL": "ws://127.0.0.1:1/",
        "BACKEND_DEAD_AFTER": "30",
        "BACKEND_DEAD_ACTION": "halt",
        "HEARTBEAT_INTERVAL": "2",
    }
    told = settings(tmp_path, **env)
    config = rooms.flow_config(told)
    assert config.stop == StopOptions(cancel_orders=False, close_positions=False, scope="mine")
    watch = config.watch
    assert (watch.heartbeat_s, watch.data_dir, watch.drawdown_flattens) == (2.0, tmp_path, True)
    assert (watch.backend_dead_after_s, watch.backend_dead_action) == (30.0, "halt")
    assert rooms.flow_config(settings(tmp_path)).stop == StopOptions()


def test_where_the_day_begins(tmp_path: Path) -> None:
    assert rooms.flow_config(settings(tmp_path)).zone.key == "UTC"
    assert rooms.flow_config(settings(tmp_path, TRADING_DAY_TIMEZONE="Europe/Athens")).zone.key == "Europe/Athens"


@pytest.mark.parametrize(
    ("env", "login", "account"),
    [
        ({}, 5000001, None),
        ({"MT5_LOGIN": "9", "MT5_PASSWORD": "x", "MT5_SERVER": "P"}, 9, None),
        (REAL, 77, "77@Broker-Live"),
        ({"TERMINAL": "mt5"}, None, None),
    ],
)
def test_who_we_are_as_far_as_the_settings_tell(
    tmp_path: Path, env: dict[str, str], login: int | None, account: str | None
) -> None:
    told = settings(tmp_path, **env)
    assert (rooms.login_of(told), rooms.account_of(told)) == (login, account)


def test_headers_are_made_once_for_a_schema_and_account() -> None:
    login = ""
    headers = rooms.Headers("b1", lambda: login)
    first = headers("tick_data")
    assert first is headers("tick_data")
    login = "7"
    assert dict(headers("tick_data")) == {"schema": b"tick_data/1", "bridge": b"b1", "account": b"7"}


def test_secrets_are_revealed_only_here(tmp_path: Path) -> None:
    assert rooms.reveal(None) is None
    assert rooms.reveal(settings(tmp_path, SIGNAL_HMAC_KEY="k" * 32).signal_hmac_key) == "k" * 32
    keys = {"SIGNAL_HMAC_KEY": "new" * 8, "SIGNAL_PREVIOUS_HMAC_KEY": "old" * 8}
    assert rooms.hmac_keys(settings(tmp_path, **keys)) == ("new" * 8, "old" * 8)
    assert rooms.hmac_keys(settings(tmp_path)) == ()


def test_the_inbox_outlives_every_signal_that_may_come_again(tmp_path: Path) -> None:
    """What has left the inbox while a topic still holds it, or while it is young enough to trade, could trade twice."""
    told = settings(tmp_path, SIGNAL_MAX_AGE_MS="86400000")
    (topic,) = [spec for spec in rooms.topic_specs(told) if spec.name == told.redpanda_signal_topic]
    assert max(topic.retention_ms, told.signal_max_age_ms) < watch.KEEP_MS
    with pytest.raises(SettingsError):
        settings(tmp_path, SIGNAL_MAX_AGE_MS=str(watch.KEEP_MS))
