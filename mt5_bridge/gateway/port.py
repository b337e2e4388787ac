"""What the gateway needs of the bridge; the only way in which it knows it."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mt5_bridge.core.channels import Listener
from mt5_bridge.core.claim import Claim
from mt5_bridge.core.figures import Figures
from mt5_bridge.core.snapshot import AccountSnapshot


class BridgePort(Protocol):
    """The bridge. Whoever calls has looked at the asker's scopes; the guards are the bridge's own."""

    def health(self) -> dict[str, Any]:
        """The `data` of a heartbeat: `status`, `halt`, `channels` and more; costs next to nothing."""
        ...

    def status(self) -> dict[str, Any]:
        """The health report, as `get_status` answers it."""
        ...

    def latch(self, *, by: str) -> None:
        """Halt trading now; what is to be cancelled and closed follows with the `emergency_stop` command."""
        ...

    def heard(self) -> Any:
        """What is latched now, for a `resume_trading` that is asked now and done later."""
        ...

    async def command(
        self, name: str, data: Mapping[str, Any], *, by: str, request_id: str | None = None, heard: Any = None
    ) -> dict[str, Any]:
        """Do a command of the table; the `data` of its `command_result`.

        A stop is latched before the first await. The same `request_id` of the same `by` does nothing twice for a day,
        over restarts too. A resume lifts nothing that came after what was `heard`; None: after this call, which may be
        before it is awaited.
        """
        ...

    async def signal(
        self,
        data: Mapping[str, Any],
        *,
        by: str,
        request_id: str | None = None,
        raw: bytes | None = None,
        signature: str | None = None,
    ) -> dict[str, Any]:
        """Enter a trading signal; the `data` of its first `order_result`. Repeated, it gets the first result again.

        `raw` are the exact bytes that `signature` signs, where SIGNAL_HMAC_KEY asks for one.
        """
        ...

    def listen(self, listener: Listener, /) -> Callable[[], None]:
        """Have a listener told what the bridge tells, beginning with the state as it is; what is returned ends it."""
        ...

    async def figures(self) -> Figures:
        """What the bridge measures, by the names of `gateway.catalogue`."""
        ...

    def snapshot(self) -> AccountSnapshot:
        """The account as last read; asks the terminal nothing."""
        ...

    async def refresh(self) -> None:
        """Read the account anew, for all who ask at once.

        Raises:
            MT5Error: it cannot be read now.
        """
        ...

    async def claim(self, request_id: str, fingerprint: str, *, by: str) -> Claim:
        """Whether a `request_id` of somebody stands for this request; durable, for a day.

        Raises:
            JournalError: what it stands for cannot be looked up.
        """
        ...

    async def connect(
        self, login: int | None, server: str | None, password: str | None, *, by: str, request_id: str | None = None
    ) -> dict[str, Any]:
        """Begin the session with the terminal, or go over to another account; as the `data` of a `command_result`."""
        ...

    async def disconnect(self, *, by: str, request_id: str | None = None) -> dict[str, Any]:
        """End the session with the terminal; as the `data` of a `command_result`."""
        ...
