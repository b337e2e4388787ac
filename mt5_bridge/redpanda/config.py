"""How to reach the broker, where a connection stands, and what is counted."""

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

import msgspec

from mt5_bridge.core.backoff import BackoffPolicy


class LinkState(StrEnum):
    """Where the connection to the broker stands."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"


OnState: TypeAlias = Callable[[LinkState, str], None]
"""Called in the loop with the new state and a detail for people; it must not raise."""


class RedpandaConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the broker is and who we are.

    Attributes:
        bootstrap: `host:port`, several separated by commas.
        security_protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        sasl_mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
        ca_file: certificates to trust in place of the system's.
        cert_file: our own certificate, with those between it and the CA.
        key_file: its key; None: in the same file.
        key_password: what the key is encrypted with.
        request_timeout: seconds until an unanswered request counts as failed.
        ack_timeout: seconds without any acknowledgement, while some is due, until the broker counts as dead.
        compression: of what is sent: none, lz4 or zstd.
        max_batch_bytes: size at which a batch of records is closed; a larger record travels alone.
        max_record_bytes: larger records are refused before they leave.
        backoff: pauses between attempts; short, since signals wait, and two a second burden no broker.
        patience: the same where only a person can mend it: a wrong password does not right itself in a second, and
            a server may count the attempts.
        max_pending_bytes: what may wait for acknowledgement; publishing more waits.
    """

    bootstrap: str = "127.0.0.1:19092"
    client_id: str = "mt5-bridge"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    key_password: str | None = None
    request_timeout: float = 10.0
    ack_timeout: float = 10.0
    compression: str = "none"
    max_batch_bytes: int = 500_000
    max_record_bytes: int = 1_000_000
    max_pending_bytes: int = 16_000_000
    backoff: BackoffPolicy = BackoffPolicy(first=0.2, cap=1.0, floor=0.1, min_uptime=5.0)
    patience: BackoffPolicy = BackoffPolicy(first=2.0, cap=15.0, floor=1.0)

    def __repr__(self) -> str:
        return f"RedpandaConfig({self.bootstrap}, {self.security_protocol}, user {self.username})"  # no password
