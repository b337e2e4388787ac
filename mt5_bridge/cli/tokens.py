"""Tokens for the gateway: JWTs that may do less than GATEWAY_TOKEN, and end."""

import time
from collections.abc import Sequence

from mt5_bridge.core.errors import SettingsError
from mt5_bridge.gateway.auth import SUBJECT_MOST, TOKEN_SUBJECT, Scope, issue
from mt5_bridge.settings import Settings


def made(settings: Settings, subject: str, scopes: Sequence[str], hours: float) -> str:
    """A token.

    Args:
        settings: with the key.
        subject: whom it is for.
        scopes: what they may do.
        hours: for how long.

    Raises:
        SettingsError: there is no key, or nobody could use such a token.
    """
    if settings.gateway_jwt_key is None:
        raise SettingsError("GATEWAY_JWT_KEY: is not set, and tokens are signed with it; set it to a long random text")
    names = {name.lower() for given in scopes for name in given.replace(",", " ").split()}
    unknown = sorted(names - set(Scope))
    if unknown or not names:
        raise SettingsError(f"--scope: {', '.join(unknown) or 'nothing'} is no scope; give some of {', '.join(Scope)}")
    if not subject.isprintable() or not 0 < len(subject) <= SUBJECT_MOST or subject == TOKEN_SUBJECT:
        raise SettingsError(f"WHO: {subject[:80]!r} cannot be told in the audit; give a name of some letters")
    return issue(
        settings.gateway_jwt_key.get_secret_value(),
        subject=subject,
        scopes=frozenset(Scope(name) for name in names),
        now_s=int(time.time()),
        ttl_s=round(hours * 3600),
    )
