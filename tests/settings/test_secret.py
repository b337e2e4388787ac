import pytest

from mt5_bridge.settings.secret import without_password


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ws://user:SECRET@h:1/x?token=SECRET", "ws://***@h:1/x?***"),
        ("ws://h/x?SECRET", "ws://h/x?***"),
        ("ws://h/x#SECRET", "ws://h/x#***"),
        ("h/x?key=SECRET&n=1", "h/x?***"),
        ("user:SECRET@h?token=SECRET", "***@h?***"),
        ("wss://h:1/x", "wss://h:1/x"),
        ("wss://h:1/x?", "wss://h:1/x?"),
        ("D:\\data? yes", "D:\\data? yes"),
        ("holds 'ws://h?token=SECRET' and more", "holds 'ws://h?*** and more"),
    ],
)
def test_an_address_shows_neither_who_nor_what_is_asked(text: str, shown: str) -> None:
    assert without_password(text) == shown
