"""Settings that contradict each other, and ones that deserve a second look."""

import importlib.machinery
import sys
import types
from pathlib import Path

import pytest

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.settings import load

SASL = {"REDPANDA_SECURITY_PROTOCOL": "SASL_SSL"}
CREDENTIALS = {"REDPANDA_SASL_USERNAME": "u", "REDPANDA_SASL_PASSWORD": "p"}


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The MetaTrader5 package, as far as looking for it goes."""
    module = types.ModuleType("MetaTrader5")
    module.__spec__ = importlib.machinery.ModuleSpec("MetaTrader5", None)
    monkeypatch.setitem(sys.modules, "MetaTrader5", module)


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def names_at_fault(folder: Path, env: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load({}, env, folder)
    return [line.partition(":")[0] for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({"MODE": "standard"}, "BACKEND_WS_URL"),
        ({"BACKEND_DEAD_AFTER": "5"}, "BACKEND_DEAD_AFTER"),
        (SASL, "REDPANDA_SASL_USERNAME"),
        ({**SASL, "REDPANDA_SASL_USERNAME": "u"}, "REDPANDA_SASL_PASSWORD"),
        (CREDENTIALS, "REDPANDA_SECURITY_PROTOCOL"),
        ({"REDPANDA_TICK_TOPIC": "trading_signals"}, "REDPANDA_TICK_TOPIC"),
        ({"REDPANDA_EVENT_TOPIC": "trading_signals.dlq"}, "REDPANDA_EVENT_TOPIC"),
        ({**SASL, **CREDENTIALS, "REDPANDA_SSL_CA_FILE": "none.pem"}, "REDPANDA_SSL_CA_FILE"),
        ({**SASL, **CREDENTIALS, "REDPANDA_SSL_CERT_FILE": "none.pem"}, "REDPANDA_SSL_CERT_FILE"),
        ({"BACKEND_WS_URL": "wss://h/", "BACKEND_SSL_CA_FILE": "none.pem"}, "BACKEND_SSL_CA_FILE"),
        ({"BACKEND_WS_URL": "wss://h/", "BACKEND_SSL_CERT_FILE": "none.pem"}, "BACKEND_SSL_CERT_FILE"),
        ({"BACKEND_WS_URL": "wss://h/", "BACKEND_SSL_KEY_PASSWORD": "key-secret"}, "BACKEND_SSL_CERT_FILE"),
        ({"BACKEND_PERMISSIONS": "read,fly"}, "BACKEND_PERMISSIONS"),
        ({"SIGNAL_PREVIOUS_HMAC_KEY": "the key of last year"}, "SIGNAL_PREVIOUS_HMAC_KEY"),
        (
            {"SIGNAL_HMAC_KEY": "the same key twice", "SIGNAL_PREVIOUS_HMAC_KEY": "the same key twice"},
            "SIGNAL_PREVIOUS_HMAC_KEY",
        ),
        ({"PAPER_TICKS": "none.csv"}, "PAPER_TICKS"),
        ({"PAPER_FAULTS": "none.json"}, "PAPER_FAULTS"),
        ({"PAPER_SYMBOLS": "none.toml"}, "PAPER_SYMBOLS"),
    ],
)
def test_contradictions_on_paper(tmp_path: Path, env: dict[str, str], name: str) -> None:
    assert names_at_fault(tmp_path, {"TERMINAL": "paper", **env}) == [name]


@pytest.mark.parametrize("name", ["BACKEND_SSL_CA_FILE", "BACKEND_SSL_CERT_FILE"])
def test_certificates_for_a_backend_without_encryption(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.pem").write_text("")
    env = {"TERMINAL": "paper", "BACKEND_WS_URL": "ws://127.0.0.1/", name: "a.pem"}
    assert names_at_fault(tmp_path, env) == [name]


def test_a_key_for_the_backend_without_its_certificate(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("")
    env = {"TERMINAL": "paper", "BACKEND_WS_URL": "wss://h/", "BACKEND_SSL_KEY_FILE": "a.key"}
    assert names_at_fault(tmp_path, env) == ["BACKEND_SSL_CERT_FILE"]


def test_a_ca_file_without_encryption(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    for kind in ("CA", "CERT"):
        env = {"TERMINAL": "paper", f"REDPANDA_SSL_{kind}_FILE": "ca.pem"}
        assert names_at_fault(tmp_path, env) == ["REDPANDA_SECURITY_PROTOCOL"]


def test_a_key_without_its_certificate(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("")
    env = {"TERMINAL": "paper", "REDPANDA_SECURITY_PROTOCOL": "SSL"}
    assert names_at_fault(tmp_path, {**env, "REDPANDA_SSL_KEY_FILE": "key.pem"}) == ["REDPANDA_SSL_CERT_FILE"]
    assert names_at_fault(tmp_path, {**env, "REDPANDA_SSL_KEY_PASSWORD": "key-secret"}) == ["REDPANDA_SSL_CERT_FILE"]


@pytest.mark.parametrize(
    ("servers", "mechanism", "doubtful"),
    [
        ("broker.example:9092", "PLAIN", True),
        ("127.0.0.1:9092,[::1]:9092,localhost:9092", "PLAIN", False),
        ("127.0.0.1:9092,broker.example:9092", "PLAIN", True),
        ("broker.example:9092", "SCRAM-SHA-256", False),
    ],
)
def test_a_password_that_travels_in_clear(tmp_path: Path, servers: str, mechanism: str, doubtful: bool) -> None:
    env = {
        "TERMINAL": "paper",
        "REDPANDA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "REDPANDA_SASL_MECHANISM": mechanism,
        "REDPANDA_SASL_USERNAME": "bridge",
        "REDPANDA_SASL_PASSWORD": "long enough to be one",
        "REDPANDA_BOOTSTRAP_SERVERS": servers,
    }
    warnings = load({}, env, tmp_path).warnings
    assert [line.partition(":")[0] for line in warnings] == ["REDPANDA_SASL_MECHANISM"] * doubtful


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({"MT5_PASSWORD": "p"}, "MT5_LOGIN"),
        ({"MT5_SERVER": "s"}, "MT5_LOGIN"),
        ({"SIGNAL_REQUIRE_ACCOUNT": "true"}, "SIGNAL_REQUIRE_ACCOUNT"),
        ({"MT5_PATH": "none.exe"}, "MT5_PATH"),
    ],
)
def test_contradictions_on_a_real_terminal(tmp_path: Path, env: dict[str, str], name: str) -> None:
    assert names_at_fault(tmp_path, env) == [name]


@pytest.mark.usefixtures("no_package")
def test_a_real_terminal_needs_its_package(tmp_path: Path) -> None:
    assert names_at_fault(tmp_path, {}) == ["TERMINAL"]


@pytest.mark.usefixtures("package")
def test_a_real_terminal_may_lend_its_own_account(tmp_path: Path) -> None:
    assert load({}, {}, tmp_path).settings.mt5_login is None


def test_a_wrong_value_is_told_once(tmp_path: Path) -> None:
    env = {"TERMINAL": "paper", "MODE": "standard", "BACKEND_WS_URL": "http://h"}
    assert names_at_fault(tmp_path, env) == ["BACKEND_WS_URL"]


@pytest.mark.parametrize(
    ("env", "start"),
    [
        ({"BACKEND_WS_URL": "ws://127.0.0.1/"}, "BACKEND_AUTH_TOKEN: is not set"),
        ({"BACKEND_WS_URL": "ws://far.example/", "BACKEND_AUTH_TOKEN": "t0ken"}, "BACKEND_WS_URL: the token travels"),
        ({"CRYPTO_PAIRS": "BTCUSD"}, "CRYPTO_PAIRS: is set, but"),
        ({"TRADING_ENABLED": "1", "REQUIRE_STOP_LOSS": "0"}, "REQUIRE_STOP_LOSS: is false"),
        ({"TRADING_ENABLED": "1", "SIMULATION_MODE": "1"}, "SIMULATION_MODE: is true"),
        ({"EMERGENCY_STOP": "1"}, "EMERGENCY_STOP: is true"),
        ({"DEADMAN_ACTION": "flatten", "SIMULATION_MODE": "1"}, "DEADMAN_ACTION: does nothing"),
        ({"DEADMAN_ACTION": "cancel", "DEADMAN_AFTER": "2"}, "DEADMAN_AFTER: is below 5 s"),
        ({"MT5_PASSWORD": "abc"}, "MT5_PASSWORD: is so short or common"),
        ({"GATEWAY_TOKEN": "Changeme"}, "GATEWAY_TOKEN: is so short or common"),
        ({"SIGNAL_HMAC_KEY": "short"}, "SIGNAL_HMAC_KEY: is shorter"),
        (
            {"SIGNAL_HMAC_KEY": "the key of this year", "SIGNAL_PREVIOUS_HMAC_KEY": "the key of last year"},
            "SIGNAL_PREVIOUS_HMAC_KEY: is still valid",
        ),
    ],
)
def test_doubts(tmp_path: Path, env: dict[str, str], start: str) -> None:
    warnings = load({}, {"TERMINAL": "paper", **env}, tmp_path).warnings
    assert len(warnings) == 1
    assert warnings[0].startswith(start)


def test_no_doubts_about_the_usual(tmp_path: Path) -> None:
    env = {
        "BACKEND_WS_URL": "wss://far.example/",
        "BACKEND_AUTH_TOKEN": "t0ken",
        "TRADING_ENABLED": "true",
        "DEADMAN_ACTION": "flatten",
        "SIGNAL_HMAC_KEY": "a key that nobody guesses",
    }
    assert load({}, {"TERMINAL": "paper", **env}, tmp_path).warnings == []
