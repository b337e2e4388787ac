"""Tokens for the gateway, made at the command line."""

import time

import pytest
from support.gateway import JWT_KEY

from mt5_bridge.cli import tokens
from mt5_bridge.core.errors import SettingsError
from mt5_bridge.gateway.auth import Authenticator, Scope
from mt5_bridge.settings import SecretStr, Settings

SETTINGS = Settings(gateway_jwt_key=SecretStr(JWT_KEY))


def test_a_token_is_taken_by_the_gateway() -> None:
    made = tokens.made(SETTINGS, "ann", ["read,stop", "READ"], 1.0)
    principal = Authenticator(None, JWT_KEY).authenticate(made)
    assert (principal.subject, set(principal.scopes)) == ("ann", {Scope.READ, Scope.STOP})
    assert principal.expires is not None
    assert 3500 < principal.expires - time.time() <= 3600


@pytest.mark.parametrize(
    ("settings", "subject", "scopes", "fault"),
    [
        (Settings(), "ann", ["read"], "GATEWAY_JWT_KEY: is not set"),
        (SETTINGS, "ann", ["read", "fly"], "--scope: fly is no scope; give some of read, trade, stop, admin"),
        (SETTINGS, "ann", [], "--scope: nothing is no scope"),
        (SETTINGS, "token", ["read"], "WHO: 'token' cannot"),
        (SETTINGS, "", ["read"], "WHO: '' cannot"),
        (SETTINGS, "a\n", ["read"], "WHO:"),
        (SETTINGS, "a" * 65, ["read"], "WHO:"),
    ],
)
def test_what_nobody_could_use_is_not_made(settings: Settings, subject: str, scopes: list[str], fault: str) -> None:
    with pytest.raises(SettingsError, match=f"^{fault}"):
        tokens.made(settings, subject, scopes, 1.0)
