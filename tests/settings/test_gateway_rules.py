"""What the gateway's settings may not be together."""

from pathlib import Path

import pytest
from support.gateway import JWT_KEY, TOKEN

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.settings import load
from mt5_bridge.settings.gateway_rules import is_loopback

ON = {"TERMINAL": "paper", "GATEWAY_ENABLED": "true"}
WITH_TOKEN = {**ON, "GATEWAY_TOKEN": TOKEN}


def names_at_fault(folder: Path, env: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load({}, env, folder)
    lines = str(caught.value).splitlines()
    assert all("; " in line for line in lines), "each names the remedy"
    for secret in (env.get("GATEWAY_TOKEN"), env.get("GATEWAY_JWT_KEY")):
        assert not secret or secret not in str(caught.value)
    return [line.partition(":")[0] for line in lines]


@pytest.mark.parametrize(
    ("env", "name"),
    [
        (ON, "GATEWAY_TOKEN"),
        ({**ON, "GATEWAY_JWT_KEY": "x" * 31}, "GATEWAY_JWT_KEY"),
        ({**ON, "GATEWAY_JWT_KEY": JWT_KEY, "GATEWAY_TOKEN": JWT_KEY}, "GATEWAY_JWT_KEY"),
        ({**WITH_TOKEN, "GATEWAY_HOST": "0.0.0.0"}, "GATEWAY_HOST"),  # noqa: S104  refused
        ({**WITH_TOKEN, "GATEWAY_HOST": "192.168.1.5"}, "GATEWAY_HOST"),
        ({**WITH_TOKEN, "GATEWAY_HOST": "desk.example"}, "GATEWAY_HOST"),
        ({**WITH_TOKEN, "GATEWAY_HOST": "a b"}, "GATEWAY_HOST"),
        ({**ON, "GATEWAY_TOKEN": "short-token", "GATEWAY_HOST": "::", "GATEWAY_ALLOW_PUBLIC": "1"}, "GATEWAY_TOKEN"),
        ({**WITH_TOKEN, "GATEWAY_TLS_CERT": "none.pem"}, "GATEWAY_TLS_CERT"),
        ({**WITH_TOKEN, "GATEWAY_TLS_KEY": "settings.key"}, "GATEWAY_TLS_CERT"),
        ({**WITH_TOKEN, "GATEWAY_ALLOWED_HOSTS": "desk.example:8001"}, "GATEWAY_ALLOWED_HOSTS"),
        ({**WITH_TOKEN, "GATEWAY_ALLOWED_HOSTS": "http://desk"}, "GATEWAY_ALLOWED_HOSTS"),
        ({**WITH_TOKEN, "GATEWAY_ALLOWED_ORIGINS": "*"}, "GATEWAY_ALLOWED_ORIGINS"),
        ({**WITH_TOKEN, "GATEWAY_ALLOWED_ORIGINS": "https://desk.example/page"}, "GATEWAY_ALLOWED_ORIGINS"),
        ({**WITH_TOKEN, "GATEWAY_ALLOWED_ORIGINS": "desk.example"}, "GATEWAY_ALLOWED_ORIGINS"),
        ({**WITH_TOKEN, "GATEWAY_ALLOWED_ORIGINS": "http://["}, "GATEWAY_ALLOWED_ORIGINS"),
    ],
)
def test_contradictions(tmp_path: Path, env: dict[str, str], name: str) -> None:
    (tmp_path / "settings.key").write_text("")
    assert names_at_fault(tmp_path, env) == [name]


@pytest.mark.parametrize(
    "env",
    [
        WITH_TOKEN,
        {**ON, "GATEWAY_JWT_KEY": JWT_KEY},
        {**WITH_TOKEN, "GATEWAY_HOST": "localhost"},
        {**WITH_TOKEN, "GATEWAY_HOST": "::1"},
        {**WITH_TOKEN, "GATEWAY_HOST": "0.0.0.0", "GATEWAY_TLS_CERT": "both.pem"},  # noqa: S104  nothing is bound
        {**WITH_TOKEN, "GATEWAY_TLS_CERT": "both.pem", "GATEWAY_TLS_KEY": "both.pem"},
        {**WITH_TOKEN, "GATEWAY_ALLOWED_HOSTS": "desk.example, [::1], 10.0.0.5"},
        {**WITH_TOKEN, "GATEWAY_ALLOWED_ORIGINS": "https://desk.example:8443, http://localhost:3000"},
        {"TERMINAL": "paper", "GATEWAY_HOST": "0.0.0.0", "GATEWAY_JWT_KEY": "short but unused"},  # noqa: S104  off
    ],
)
def test_what_is_right_is_not_doubted(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "both.pem").write_text("")
    assert load({}, env, tmp_path).warnings == []


@pytest.mark.parametrize(
    ("env", "start"),
    [
        ({**ON, "GATEWAY_TOKEN": "short-token"}, "GATEWAY_TOKEN: is shorter than 16 characters"),
        (
            {**WITH_TOKEN, "GATEWAY_HOST": "192.168.1.5", "GATEWAY_ALLOW_PUBLIC": "true"},
            "GATEWAY_HOST: others can reach it and nothing is encrypted",
        ),
    ],
)
def test_what_is_allowed_and_doubtful(tmp_path: Path, env: dict[str, str], start: str) -> None:
    (warning,) = load({}, env, tmp_path).warnings
    assert warning.startswith(start)


def test_without_its_packages_it_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r'^GATEWAY_ENABLED: .*run: python -m pip install "mt5-bridge\[gateway\]"$'):
        load({}, WITH_TOKEN, tmp_path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example", "8.8.8.8", ""])  # noqa: S104  nothing is bound
def test_others_reach_it(host: str) -> None:
    assert not is_loopback(host)
