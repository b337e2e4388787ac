import time
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateway import JWT_KEY, TOKEN, jwt_for

from mt5_bridge.gateway.auth import ALL_SCOPES, LEEWAY_S, Authenticator, Scope, demand, issue
from mt5_bridge.gateway.problems import Problem

AUTH = Authenticator(TOKEN, JWT_KEY)


def code_of(header: str | None, auth: Authenticator = AUTH) -> str:
    with pytest.raises(Problem) as caught:
        auth.of_header(header)
    assert caught.value.status == 401
    assert (caught.value.headers or {})["WWW-Authenticate"].startswith("Bearer")
    return caught.value.code


def claims(**changed: Any) -> dict[str, Any]:
    made = {"sub": "ann", "exp": int(time.time()) + 86_400, "scope": "read", **changed}
    return {name: value for name, value in made.items() if value is not None}


def signed(key: str = JWT_KEY, algorithm: str = "HS256", **changed: Any) -> str:
    return "Bearer " + jwt.encode(claims(**changed), key, algorithm=algorithm)


@pytest.mark.parametrize("exp", ["9999999999", 1e300, 10**400, True, [1], {}, None, float("nan"), float("inf"), -1])
def test_an_end_that_is_no_time_is_none(exp: Any) -> None:
    with pytest.raises(Problem) as refused:
        AUTH.of_header(signed(exp=exp))
    assert refused.value.status == 401


def test_the_token_may_do_everything() -> None:
    principal = AUTH.of_header(f"bearer  {TOKEN} ")
    assert (principal.subject, principal.scopes, principal.expires) == ("token", ALL_SCOPES, None)


@pytest.mark.parametrize(
    ("scope", "may"),
    [
        ("read", {"read"}),
        ("trade", {"trade", "read"}),
        ("stop", {"stop"}),
        ("admin", {"read", "trade", "stop", "admin"}),
        ("read stop", {"read", "stop"}),
        (["stop", "trade"], {"read", "stop", "trade"}),
        ("fly READ", set()),
        ("", set()),
        (None, set()),
    ],
)
def test_scopes_of_a_jwt(scope: Any, may: set[str]) -> None:
    principal = AUTH.of_header(signed(scope=scope))
    assert principal.subject == "ann"
    assert {one.value for one in Scope if principal.may(one)} == may


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer \ud800",
        "Bearer not.a.jwt",
        signed(key="another key that is long enough to sign with it"),
        signed(algorithm="HS512"),
        "Bearer " + jwt.encode(claims(), "", algorithm="none"),
        signed(exp=None),
        signed(sub=None),
        signed(sub=""),
        signed(sub="token"),
        signed(sub="a\nb"),
        signed(sub="x" * 65),
        signed(scope=7),
        signed(scope={"read": 1}),
        signed(aud="another service"),
        signed(nbf=int(time.time()) + 86_000),
    ],
)
def test_what_is_no_token(header: str) -> None:
    assert code_of(header) == "invalid_token"


def test_none_and_expired() -> None:
    assert code_of(None) == "no_token"
    assert code_of(signed(exp=int(time.time()) - LEEWAY_S - 1)) == "expired_token"


def test_only_what_is_configured_is_taken() -> None:
    assert code_of(f"Bearer {jwt_for(Scope.READ)}", Authenticator(TOKEN, None)) == "invalid_token"
    assert code_of(f"Bearer {TOKEN}", Authenticator(None, JWT_KEY)) == "invalid_token"
    assert code_of("Bearer ", Authenticator(None, None)) == "invalid_token"


@given(st.text(max_size=300))
def test_nothing_but_a_token_is_one(text: str) -> None:
    if text.strip() not in ("", TOKEN):
        with pytest.raises(Problem):
            AUTH.authenticate(text)


@given(st.sets(st.sampled_from(list(Scope))), st.sampled_from(list(Scope)))
def test_who_has_less_may_not_do_more(has: set[Scope], more: Scope) -> None:
    """Scopes only add up."""
    now = int(time.time())
    few = issue(JWT_KEY, subject="bo", scopes=frozenset(has), now_s=now, ttl_s=86_400)
    many = issue(JWT_KEY, subject="bo", scopes=frozenset(has | {more}), now_s=now, ttl_s=86_400)
    assert AUTH.authenticate(few).scopes <= AUTH.authenticate(many).scopes
    assert AUTH.authenticate(many).may(more)


def test_a_lacking_scope_is_named() -> None:
    with pytest.raises(Problem) as caught:
        demand(AUTH.authenticate(jwt_for(Scope.READ)), Scope.STOP)
    assert (caught.value.status, caught.value.code, caught.value.more) == (403, "missing_scope", {"scope": "stop"})
