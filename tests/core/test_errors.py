"""One family of errors: what may be tried again, and what may have been executed."""

import inspect

import pytest

from mt5_bridge.core import errors
from mt5_bridge.core.errors import BridgeError, MT5Error, WireError

ALL = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]
RETRIABLE = {
    "MT5CircuitBreakerOpen",
    "MT5TimeoutError",
    "MT5ConnectionError",
    "MT5DataError",
    "JournalError",
    "BrokerError",
    "ChannelClosedError",
}


@pytest.mark.parametrize("cls", ALL)
def test_one_base_and_one_word_about_trying_again(cls: type[BridgeError]) -> None:
    assert issubclass(cls, BridgeError)
    assert cls("why").retriable is (cls.__name__ in RETRIABLE)
    assert str(cls("why")) == "why"


def test_terminal_errors_carry_their_code_and_whether_they_were_sent() -> None:
    error = MT5Error("no answer", code=-10005, sent=True)
    assert (error.code, error.sent) == (-10005, True)
    assert (MT5Error("no").code, MT5Error("no").sent) == (None, False)


def test_wire_errors_carry_what_a_dead_letter_needs() -> None:
    error = WireError("bad", reason="no_envelope", signal_id="s1")
    assert (error.reason, error.signal_id) == ("no_envelope", "s1")
    assert (WireError("bad").reason, WireError("bad").signal_id) == ("invalid", None)
