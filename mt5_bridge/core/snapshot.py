"""The account as it was last read, in the shapes of the contract; many may look, and the terminal is not asked."""

from typing import Any

import msgspec


class AccountSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Account, positions and orders of one complete read.

    Attributes:
        read: grows with every complete read; 0: there was none yet.
        at_msc: when it was read (UTC ms); 0 before the first.
        reconciled: whether the bridge has compared itself with the terminal since it was last connected.
        account: as in `account_info`; None before the first read.
        positions: as in `positions`, by ticket.
        orders: the pending ones as `get_orders` answers them, by ticket.
    """

    read: int
    at_msc: int
    reconciled: bool
    account: dict[str, Any] | None
    positions: tuple[dict[str, Any], ...]
    orders: tuple[dict[str, Any], ...]
