"""Who is logged in: sessions by cookie, streams by token. Kept in memory, gone with the process."""

import hmac
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec

from mt5_bridge.dashboard.feed import Feed

COOKIE = "mt5_bridge_session"
LIFETIME_S = 12 * 3600.0
MOST = 100
TRIES = 10
PER_S = 60.0
"""Wrong tokens that are judged within so many seconds; those beyond are refused unseen."""


class Session(msgspec.Struct, kw_only=True, eq=False):
    """One person's log-in. `since` on the monotonic clock."""

    key: str
    by: str
    token: str
    feed: Feed
    since: float


class Sessions:
    """All of them.

    Args:
        url: where the streams come from.
        check: whether a token lets in; raises what `check_token` does.
        entry_token: the token behind the entry code; None: there is no such code.

    Attributes:
        entry_code: logs in without the token; for the link that a program on this machine opens.
    """

    def __init__(self, url: str, check: Callable[[str], Awaitable[object]], entry_token: str | None = None) -> None:
        self._url = url
        self._check = check
        self._entry_token = entry_token
        self.entry_code = secrets.token_urlsafe(24) if entry_token else ""
        self._sessions: dict[str, Session] = {}
        self._feeds: dict[str, Feed] = {}
        self._failures: list[float] = []

    def of(self, key: str | None) -> Session | None:
        """The session of a cookie."""
        session = self._sessions.get(key or "")
        if session is not None and time.monotonic() - session.since > LIFETIME_S:
            return None
        return session

    async def log_in(self, token: str, by: str) -> Session:
        """Open a session.

        Raises:
            PermissionError: the token does not let in, or too many wrong ones came.
            ChannelClosedError: nobody there who could say.
        """
        if self._entry_token and hmac.compare_digest(token.encode(), self.entry_code.encode()):
            token = self._entry_token
        now = time.monotonic()
        self._failures = [at for at in self._failures if now - at < PER_S]
        if len(self._failures) >= TRIES:
            raise PermissionError("too many wrong tokens; wait a minute")
        try:
            await self._check(token)
        except PermissionError:
            self._failures.append(now)
            raise
        await self._make_room()
        if token not in self._feeds:
            self._feeds[token] = Feed(self._url, token)
            self._feeds[token].start()
        key = secrets.token_urlsafe(32)
        self._sessions[key] = Session(key=key, by=by, token=token, feed=self._feeds[token], since=now)
        return self._sessions[key]

    async def log_out(self, key: str | None) -> None:
        """Close a session, and its token's stream when it was the last."""
        session = self._sessions.pop(key or "", None)
        if session is not None and all(other.token != session.token for other in self._sessions.values()):
            feed = self._feeds.pop(session.token, None)
            if feed is not None:
                await feed.close()

    async def close(self) -> None:
        """Close all."""
        for key in tuple(self._sessions):
            await self.log_out(key)

    async def _make_room(self) -> None:
        now = time.monotonic()
        for key, session in tuple(self._sessions.items()):
            if now - session.since > LIFETIME_S:
                await self.log_out(key)
        while len(self._sessions) >= MOST:
            await self.log_out(next(iter(self._sessions)))
