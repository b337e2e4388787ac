"""The errors of the bridge: one base class, facts as attributes, text for a person in `str()`."""


class BridgeError(Exception):
    """Base of everything the bridge raises on purpose.

    Attributes:
        retriable: trying the same again later can help.
    """

    retriable = False


class MT5Error(BridgeError):
    """Base of what goes wrong between the bridge and the terminal.

    Attributes:
        code: the terminal's `last_error` code, or None where the bridge itself noticed.
        sent: the request had been handed to the terminal, so its effect is unknown. False: certainly not executed.
    """

    def __init__(self, message: str, *, code: int | None = None, sent: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.sent = sent


class MT5InitError(MT5Error):
    """The terminal could not be started or found (-10003): path, bitness or Windows user."""


class MT5AuthError(MT5Error):
    """The broker refused the login (-6), wants a one-time password (-7), or another account answered."""


class MT5CircuitBreakerOpen(MT5Error):
    """Too many failures in a row: calls are refused until the probe succeeds."""

    retriable = True


class MT5TimeoutError(MT5Error):
    """A call outlived its deadline; its host was killed."""

    retriable = True


class MT5ConnectionError(MT5Error):
    """The pipe to the terminal, or the host process, broke."""

    retriable = True


class MT5DataError(MT5Error):
    """The terminal answered None or something that cannot be right. Never to be read as "empty"."""

    retriable = True


class MT5ValidationError(MT5Error):
    """A request that the terminal would refuse for its form (-2), refused before it leaves."""


class MT5StateError(MT5Error):
    """The call does not fit the session's state: not connected, closing."""


class SettingsError(BridgeError):
    """One or more settings are wrong. `str()` is one line a setting: name, fault, remedy.

    Attributes:
        hints: lines on what is no fault by itself and may be the cause: a misspelt name, say.
    """

    def __init__(self, message: str, hints: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.hints = hints


class InstanceError(BridgeError):
    """Another bridge runs on the same folder or account."""


class JournalError(BridgeError):
    """The journal cannot be read or written."""

    retriable = True


class BrokerError(BridgeError):
    """The Kafka-protocol broker did not take or give what was asked."""

    retriable = True


class ChannelClosedError(BridgeError):
    """The WebSocket went away before a frame was known to have arrived."""

    retriable = True


class WireError(BridgeError):
    """A message that does not follow the contract.

    Attributes:
        reason: short code for headers and counters.
        signal_id: the signal's id where it could be read all the same, else None.
    """

    def __init__(self, message: str, *, reason: str = "invalid", signal_id: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.signal_id = signal_id
