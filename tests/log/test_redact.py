"""What must never be written."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt5_bridge.log.redact import Redactor, secrets_of
from mt5_bridge.settings import SecretStr, Settings


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


def test_a_secret_within_another_leaves_nothing() -> None:
    assert Redactor(["longsecret", "longsecretandmore"]).text("x longsecretandmore y") == "x *** y"


@given(st.text(min_size=8), st.text(), st.text())
def test_a_known_secret_in_any_form_is_gone(secret: str, before: str, after: str) -> None:
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
