"""What must never be written."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mt5_bridge.log.redact import Redactor, secrets_of
from mt5_bridge.settings import SPECS, SecretStr, Settings, SettingsError, is_guessable, load


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("authorization=Basic dXNlcjpwdw==", "authorization=Basic ***"),
        ("password=hunter2, user=me", "password=***, user=me"),
        ('{"password": "hunter2", "n": 1}', '{"password": "***", "n": 1}'),
        ("MT5_PASSWORD=hunter2", "MT5_PASSWORD=***"),
        ("sasl_plain_password='hunter2'", "sasl_plain_password='***'"),
        ("token: abc; next", "token: ***; next"),
        ("api_key=abc&x=1", "api_key=***&x=1"),
        ("x-api-key: abc", "x-api-key: ***"),
        ("to redis://:pw@h/0 and ws://u:p%40@h", "to redis://:***@h/0 and ws://u:***@h"),
        ("password=None", "password=None"),
        ("the password was wrong", "the password was wrong"),
        ("password='two words' x", "password='***' x"),
        ("password=*star", "password=***"),
        ("password='cut off\nnext line", "password='***'\nnext line"),
        ('{"token": "a \\"quoted\\" one", "n": 1}', '{"token": "***", "n": 1}'),
        ("password: is", "password: ***"),
        ("password: None-of-yours", "password: ***"),
        ("password=bearer-of-news", "password=***"),
        ("password: the1 rest", "password: *** rest"),
        ("BACKEND_AUTH_TOKEN: is not set, the backend", "BACKEND_AUTH_TOKEN: is not set, the backend"),
        ("MT5_PASSWORD: the secret is too long; cut it", "MT5_PASSWORD: the secret is too long; cut it"),
        ("GATEWAY_TOKEN: missing; set it", "GATEWAY_TOKEN: missing; set it"),
        ("Order placed, ticket 123456", "Order placed, ticket 123456"),
    ],
)
def test_what_looks_like_a_secret(text: str, clean: str) -> None:
    redactor = Redactor()
    assert redactor.text(text) == clean
    assert redactor.text(clean) == clean


def test_a_short_secret_hides_nothing_else() -> None:
    redactor = Redactor(["1234"])
    assert redactor.text("ticket 5123456, pin 1234.") == "ticket 5123456, pin ***."


def test_what_is_no_secret_does_not_shred_the_log() -> None:
    redactor = Redactor(["a", "1", "Order", "demo", "connected"])
    line = "Order placed: 1 lot on a demo account, backend connected"
    assert redactor.text(line) == line
    assert redactor.text("login refused for 'demo', password=a, ws://u:demo@h") == (
        "login refused for '***', password=***, ws://u:***@h"
    )
    assert redactor.field("auth_token", "demo") == "***"


def test_what_settings_are_said_to_be_is_not_hidden(tmp_path: Path) -> None:
    """Every line that the settings' own rules can say passes as it is."""
    names = [name for name, spec in SPECS.items() if spec.kind.secret]
    env = dict.fromkeys(names, "q\x01q") | {"TERMINAL": "paper"}
    with pytest.raises(SettingsError) as caught:
        load({}, env, tmp_path, keyring=lambda name: None)
    doubtful = {"TERMINAL": "paper", "BACKEND_WS_URL": "ws://h/", "SIGNAL_HMAC_KEY": "demo", "MT5_PASSWORD": "x"}
    loaded = load({}, doubtful, tmp_path)
    lines = [*str(caught.value).splitlines(), *loaded.warnings]
    assert len(lines) >= len(names) + 3
    redactor = Redactor(secrets_of(loaded.settings))
    assert [redactor.text(line) for line in lines] == lines


ODD = "\"',;&)}]\\"
"""Where a value that is not known and not quoted ends for want of better knowledge."""


@given(st.text(min_size=1).filter(lambda text: not (set(text) & set(ODD)) and not any(c.isspace() for c in text)))
def test_an_unknown_secret_behind_its_name_is_gone(secret: str) -> None:
    assume(secret.lower() != "none")
    for text in ("password={}", "MT5_PASSWORD: {}", "token='{}' x", '"api_key": "{}"', "sasl_password=b'{}'"):
        assert Redactor().text(text.format(secret)) == text.format("***")


@given(st.text(min_size=4, max_size=7), st.sampled_from(["", " ", "(", "'", "=", ": "]))
def test_a_short_secret_that_stands_alone_is_gone(secret: str, before: str) -> None:
    assume(not is_guessable(secret))
    assert secret not in Redactor([secret]).text(f"x {before}{secret} y") or secret in "x * *** y" + before


def test_a_secret_within_another_leaves_nothing() -> None:
    assert Redactor(["longsecret", "longsecretandmore"]).text("x longsecretandmore y") == "x *** y"


@given(st.text(min_size=8), st.text(), st.text())
def test_a_known_secret_in_any_form_is_gone(secret: str, before: str, after: str) -> None:
    assume(not is_guessable(secret))
    redactor = Redactor([secret])
    for form in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe="", errors="replace")):
        text = redactor.text(before + form + after)
        assert form not in text or form in "***" or form in before + after + "*" * 9


def test_fields() -> None:
    redactor = Redactor(["hunter2hunter2"])
    assert redactor.field("auth_token", "x") == "***"
    assert redactor.field("auth_token", None) is None
    assert redactor.field("count", 5) == 5
    assert redactor.field("tokens_used", "5") == "5"
    assert redactor.field("d", {"secret": 1, "list": ["hunter2hunter2", 2.5]}) == {
        "secret": "***",
        "list": ["***", 2.5],
    }


def test_the_settings_secrets_and_the_passwords_in_addresses() -> None:
    settings = Settings(
        mt5_password=SecretStr("one"),
        database_url=SecretStr("postgresql://u:two@h/db"),
        backend_ws_url="ws://u:three@h/",
        backend_api_url="http://h/",
        gateway_token=SecretStr(""),
    )
    assert secrets_of(settings) == ["one", "three", "postgresql://u:two@h/db", "two"]


def test_a_secret_that_replaced_another_is_hidden_beside_it() -> None:
    redactor = Redactor(["first-token"])
    redactor.add("second-token")
    redactor.add("second-token")
    redactor.add("")
    assert redactor.text("from first-token to second-token") == "from *** to ***"
