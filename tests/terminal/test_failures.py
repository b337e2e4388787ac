import pytest

from mt5_bridge.core.errors import (
    MT5AuthError,
    MT5ConnectionError,
    MT5DataError,
    MT5Error,
    MT5InitError,
    MT5StateError,
    MT5ValidationError,
)
from mt5_bridge.terminal.failures import breaks_connection, error_of
from mt5_bridge.terminal.frames import Failure


@pytest.mark.parametrize(
    ("code", "kind", "retriable"),
    [
        (-1, MT5DataError, True),
        (-2, MT5ValidationError, False),
        (-3, MT5DataError, True),
        (-4, MT5DataError, True),
        (-5, MT5InitError, False),
        (-6, MT5AuthError, False),
        (-7, MT5AuthError, False),
        (-8, MT5StateError, False),
        (-10000, MT5ConnectionError, True),
        (-10001, MT5ConnectionError, True),
        (-10002, MT5ConnectionError, True),
        (-10003, MT5InitError, False),
        (-10004, MT5ConnectionError, True),
        (-10005, MT5ConnectionError, True),
    ],
)
def test_each_code_has_its_error(code: int, kind: type[MT5Error], retriable: bool) -> None:
    error = error_of(Failure("terminal", code, "text"))
    assert type(error) is kind
    assert (error.code, error.retriable, error.sent) == (code, retriable, False)
    assert breaks_connection(error) is (code <= -10000)


@pytest.mark.parametrize(("code", "sent"), [(-2, False), (-8, False), (-10004, False), (-10005, True), (-1, True)])
def test_an_order_without_answer_is_sent_unless_the_code_says_no(code: int, sent: bool) -> None:
    assert error_of(Failure("terminal", code, "text", True)).sent is sent


def test_a_waiting_login_window_is_named() -> None:
    assert "interactive login" in str(error_of(Failure("terminal", -10005, "IPC timeout")))


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("mismatch", MT5AuthError),
        ("import", MT5InitError),
        ("settings", MT5InitError),
        ("validation", MT5ValidationError),
        ("bug", MT5DataError),
    ],
)
def test_what_the_host_itself_reports(kind: str, error: type[MT5Error]) -> None:
    found = error_of(Failure(kind, None, "why"))
    assert type(found) is error
    assert "why" in str(found)
    assert not breaks_connection(found)
