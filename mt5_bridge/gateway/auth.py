"""Who asks, and what they may do: one token for everything, or JWTs (HS256) with scopes and an end."""

import hashlib
import hmac
from enum import StrEnum
from typing import Annotated, Any

import jwt
import msgspec
from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from mt5_bridge.gateway.problems import Problem

LEEWAY_S = 5
"""How far the clock of who makes JWTs may be behind or ahead."""
SUBJECT_MOST = 64
LATEST_S = 1 << 40
"""No end of a token is later: reckoning with it must not fail."""


class Scope(StrEnum):
    """What a token may do."""

    READ = "read"
    """All that only looks: every GET, the WebSocket's stream."""
    TRADE = "trade"
    """Signals, orders, positions, pending orders. Implies `read`."""
    STOP = "stop"
    """The emergency stop and `reduce_only`. Implies nothing: who may stop need not see the account."""
    ADMIN = "admin"
    """Resume, connect, disconnect, broadcast. Implies all others."""


_IMPLIES: dict[Scope, frozenset[Scope]] = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.TRADE: frozenset({Scope.TRADE, Scope.READ}),
    Scope.STOP: frozenset({Scope.STOP}),
    Scope.ADMIN: frozenset(Scope),
}
ALL_SCOPES = frozenset(Scope)
TOKEN_SUBJECT = "token"  # noqa: S105 - the name of who holds it, not the token


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks.

    Attributes:
        subject: the JWT's `sub`; `token` for who holds GATEWAY_TOKEN.
        scopes: what they may do, implied scopes too.
        expires: when this ends, seconds since the epoch; None: not by itself.
    """

    subject: str
    scopes: frozenset[Scope]
    expires: int | None = None

    def may(self, scope: Scope) -> bool:
        """Whether this one has the scope."""
        return scope in self.scopes


class Authenticator:
    """Tells who holds a token.

    Args:
        token: GATEWAY_TOKEN; None: none is taken.
        jwt_key: GATEWAY_JWT_KEY; None: no JWT is taken.
    """

    def __init__(self, token: str | None, jwt_key: str | None) -> None:
        self._digest = None if token is None else _digest(token)
        self._key = jwt_key
        self._holder = Principal(subject=TOKEN_SUBJECT, scopes=ALL_SCOPES)

    def authenticate(self, token: str) -> Principal:
        """Who holds this token.

        Raises:
            Problem: 401 `invalid_token` or `expired_token`.
        """
        # Both of one length: the time it takes tells nothing of either.
        if self._digest is not None and hmac.compare_digest(_digest(token), self._digest):
            return self._holder
        if self._key is None:
            raise unauthorized("invalid_token", "the token is not known here")
        try:
            claims = jwt.decode(
                token, self._key, algorithms=["HS256"], leeway=LEEWAY_S, options={"require": ["exp", "sub"]}
            )
        except jwt.ExpiredSignatureError:
            raise unauthorized("expired_token", "the token has expired: get a new one") from None
        except (jwt.PyJWTError, ValueError, ArithmeticError, RecursionError):  # it lets some of Python's own through
            # Why in detail is of use to who forges one only.
            raise unauthorized("invalid_token", "the token is not known here") from None
        return _principal(claims)

    def of_header(self, value: str | None) -> Principal:
        """Who asks by an `Authorization` header.

        Raises:
            Problem: 401.
        """
        if value is None:
            raise unauthorized("no_token", "an Authorization: Bearer header with a token is needed")
        scheme, _, token = value.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise unauthorized("invalid_token", "Authorization must be: Bearer TOKEN")
        return self.authenticate(token.strip())


def _principal(claims: dict[str, Any]) -> Principal:
    subject, scope, expires = claims["sub"], claims.get("scope", ""), claims["exp"]
    names = scope.split() if isinstance(scope, str) else scope
    # `token` is whom the audit trail calls by that name, and no one else.
    ends = isinstance(expires, int | float) and not isinstance(expires, bool) and 0 <= expires < LATEST_S
    named = isinstance(subject, str) and subject.isprintable() and 0 < len(subject) <= SUBJECT_MOST
    if not ends or not named or subject == TOKEN_SUBJECT or not isinstance(names, list):
        raise unauthorized("invalid_token", "the token is not known here")
    known = {scope for scope in Scope if scope.value in names}
    scopes = frozenset(implied for scope in known for implied in _IMPLIES[scope])
    return Principal(subject=subject, scopes=scopes, expires=int(expires))


def issue(key: str, *, subject: str, scopes: frozenset[Scope], now_s: int, ttl_s: int) -> str:
    """A JWT for somebody.

    Args:
        key: GATEWAY_JWT_KEY.
        subject: who it is for; the audit trail names them so.
        scopes: what it allows.
        now_s: the time now, seconds since the epoch.
        ttl_s: for how long, seconds.
    """
    claims = {"sub": subject, "scope": " ".join(sorted(scopes)), "iat": now_s, "exp": now_s + ttl_s}
    return jwt.encode(claims, key, algorithm="HS256")


def unauthorized(code: str, detail: str) -> Problem:
    """A 401 with the challenge that belongs to it."""
    return Problem(401, code, detail, headers={"WWW-Authenticate": 'Bearer realm="mt5-bridge"'})


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


# --- in the routes

bearer = HTTPBearer(auto_error=False, description="GATEWAY_TOKEN, or a JWT signed with GATEWAY_JWT_KEY.")


def caller(request: Request) -> Principal:
    """Who asks, as the shield found out."""
    principal: Principal = request.scope["state"]["principal"]
    return principal


class Needs:
    """A route's dependency: the asker must have the scope.

    Raises:
        Problem: 403 `missing_scope`.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request, _: Annotated[Any, Security(bearer)]) -> Principal:
        principal = caller(request)
        demand(principal, self.scope)
        return principal


class NeedsUnlessOpen(Needs):
    """The same for what the shield lets pass without a token on loopback."""

    async def __call__(self, request: Request, _: Annotated[Any, Security(bearer)]) -> Principal | None:  # type: ignore[override]  # None is nobody, where nobody need be
        return await super().__call__(request, _) if request.scope["state"]["principal"] is not None else None


def demand(principal: Principal, scope: Scope) -> None:
    """Raise when somebody lacks a scope.

    Raises:
        Problem: 403 `missing_scope`.
    """
    if not principal.may(scope):
        raise Problem(403, "missing_scope", f"this needs the scope {scope.value!r}", scope=scope.value)


Reader = Annotated[Principal, Depends(Needs(Scope.READ))]
"""A parameter of a route that only looks."""
Trader = Annotated[Principal, Depends(Needs(Scope.TRADE))]
"""A parameter of a route that trades."""
Stopper = Annotated[Principal, Depends(Needs(Scope.STOP))]
"""A parameter of a route that stops."""
Admin = Annotated[Principal, Depends(Needs(Scope.ADMIN))]
"""A parameter of a route for administrators."""
