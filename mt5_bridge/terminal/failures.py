"""Which error a failure is, by the terminal's `last_error`: pure."""

from mt5_bridge.core.errors import (
    MT5AuthError,
    MT5ConnectionError,
    MT5DataError,
    MT5Error,
    MT5InitError,
    MT5StateError,
    MT5ValidationError,
)
from mt5_bridge.terminal.frames import IPC_FAIL, Failure

INVALID_PARAMS = -2
INVALID_VERSION = -5
AUTH_FAILED = -6
UNSUPPORTED = -7
API_DISABLED = -8
IPC_INIT = -10003
IPC_NO_CONNECTION = -10004
IPC_TIMEOUT = -10005

NOT_SENT = frozenset({INVALID_PARAMS, API_DISABLED, IPC_INIT, IPC_NO_CONNECTION})
"""With these after `order_send` the request certainly never reached the broker."""
FATAL = frozenset({INVALID_VERSION, AUTH_FAILED, UNSUPPORTED, IPC_INIT})
"""No retry mends these; brokers lock accounts whose wrong password is tried again and again."""

_CLASSES: dict[int, type[MT5Error]] = {
    INVALID_PARAMS: MT5ValidationError,
    INVALID_VERSION: MT5InitError,
    AUTH_FAILED: MT5AuthError,
    UNSUPPORTED: MT5AuthError,
    API_DISABLED: MT5StateError,
    IPC_INIT: MT5InitError,
}
_HINTS = {
    INVALID_VERSION: "terminal and Python package do not fit: update both",
    AUTH_FAILED: "login, password or server is wrong; it is not tried again by itself",
    UNSUPPORTED: "the account wants a one-time password or a certificate, which the Python API cannot give",
    API_DISABLED: "trading through the Python API is disabled in the terminal's options",
    IPC_INIT: "check the terminal's path, that it is 64-bit, and that it runs under the same Windows user",
    IPC_TIMEOUT: "the terminal runs but does not answer: log in at its window, an interactive login may be waiting",
}


def error_of(failure: Failure) -> MT5Error:
    """The exception for a failure the host reported, with `code` and `sent` set."""
    if failure.kind == "terminal" and failure.code is not None:
        return _terminal_error(failure.code, failure.text, failure.sent)
    if failure.kind == "mismatch":
        return MT5AuthError(failure.text)
    if failure.kind in ("import", "settings"):
        return MT5InitError(failure.text)
    if failure.kind == "validation":
        return MT5ValidationError(failure.text)
    if failure.kind in ("busy", "withdrawn"):
        return MT5StateError(failure.text)
    return MT5DataError(f"the terminal host failed: {failure.text}", sent=failure.sent)


def _terminal_error(code: int, text: str, sent: bool) -> MT5Error:
    hint = _HINTS.get(code)
    message = f"{text}; {hint}" if hint else text
    default: type[MT5Error] = MT5ConnectionError if code <= IPC_FAIL else MT5DataError
    return _CLASSES.get(code, default)(message, code=code, sent=sent and code not in NOT_SENT)


def breaks_connection(error: MT5Error) -> bool:
    """Whether nothing will work before `initialize` is called again."""
    return error.code is not None and error.code <= IPC_FAIL
