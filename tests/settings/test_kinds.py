"""Each kind of value: what it takes, and what it says about the rest."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from mt5_bridge.settings.kinds import (
    Choice,
    Choices,
    Duration,
    FaultError,
    Flag,
    Kind,
    PathText,
    Pattern,
    Pieces,
    Real,
    Secret,
    SecretUrl,
    Servers,
    Timeout,
    Url,
    Whole,
    Words,
    Zone,
)
from mt5_bridge.settings.secret import SecretStr


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Kind(), "x", "x"),
        (Flag(), "YES", True),
        (Flag(), "off", False),
        (Whole(1, 9), "9", 9),
        (Real(0, 9), "0", 0.0),
        (Real(0, 9, above=True), "1e-3", 0.001),
        (Duration(), "90", 90.0),
        (Duration(), "1.5 H", 5400.0),
        (Duration(), "2d", 172800.0),
        (Timeout(), "60000", 60000),
        (Timeout(), "60", 60000),
        (Choice("SASL_SSL"), "sasl_ssl", "SASL_SSL"),
        (Choices("M1", "H1"), "h1, m1 M1;", ("H1", "M1")),
        (Choices("M1", "H1"), '["M1", "H1"]', ("M1", "H1")),
        (Words(), "a, b;b\nc", ("a", "b", "c")),
        (Words(), "EURUSD GBPUSD.m", ("EURUSD", "GBPUSD.m")),
        (Words(), "Volatility 75 Index", ("Volatility 75 Index",)),
        (Words(), '["A", \'B\', ""]', ("A", "B")),
        (Pieces(), "a b.csv, ,c", ("a b.csv", "c")),
        (PathText(), "a/b", Path("a/b")),
        (Url("ws", "wss"), "wss://h.example:1/x", "wss://h.example:1/x"),
        (Servers(), "a:1, b-2.x:65535; [::1]:9092", "a:1,b-2.x:65535,[::1]:9092"),
        (Zone(), "Europe/Athens", "Europe/Athens"),
        (Secret(), "p w", SecretStr("p w")),
        (SecretUrl("redis"), "redis://:p@h", SecretStr("redis://:p@h")),
    ],
)
def test_accepted(kind: Kind, text: str, value: Any) -> None:
    assert kind.parse(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "fault", "remedy"),
    [
        (Flag(), "maybe", "is neither true nor false", "give true or false"),
        (Whole(1, 9), "1.5", "is not a whole number", "give a whole number from 1 to 9"),
        (Whole(1, 9, "(lots)"), "10", "is out of range", "give a whole number from 1 to 9 (lots)"),
        (Real(0, 9), "1,5", "is not a number", "give a number from 0 to 9 (a decimal point, not a comma)"),
        (Real(0, 9), "inf", "is out of range", "give a number from 0 to 9"),
        (Real(0, 9), "nan", "is out of range", "give a number from 0 to 9"),
        (Real(0, 9, above=True), "0", "is out of range", "give a number above 0, at most 9"),
        (Duration(), "soon", "is not a span of time", "give seconds, or a number with s, m, h or d"),
        (Timeout(), "0", "is out of range", "give a whole number from 1 to 600000 (milliseconds)"),
        (Choice("a", "b"), "c", "is unknown", "give one of a, b"),
        (Choices("a", "b"), "a,c", "holds 'c', which is unknown", "give some of a, b, with commas between"),
        (Pattern("x", "is no x", "give x"), "y", "is no x", "give x"),
        (Words(), "a,\x07", "holds '\\x07', which is no name", "give names with commas between"),
        (Words(), "x" * 65, f"holds '{'x' * 64}', which is no name", "give names"),
        (PathText(), "~nobody-here/x", "names a home folder that is not known", "give the path in full"),
        (Url("ws"), "ws://h/#x", "holds a #", "write %23 for it"),
        (Url("ws"), "ws://me@h/", "holds a user without password", "give both or neither"),
        (Url("ws"), "http://h", "does not begin with ws://", "give an address such as ws://"),
        (Url("ws"), "ws://", "is not an address", "give an address"),
        (Url("ws"), "ws://h:99999", "is not an address", "give an address"),
        (Url("ws"), "ws://h/a b", "is not an address", "give an address"),
        (Servers(), "127.0.0.1", "holds '127.0.0.1', which is not host:port", "give host:port"),
        (Servers(), "a:70000", "holds 'a:70000', which is not host:port", "give host:port"),
        (Zone(), "Mars/Base", "is not a known time zone", "give an IANA name"),
        (Zone(), "../etc/passwd", "is not a known time zone", "give an IANA name"),
        (Secret(), "a\tb", "holds control characters", "write it on one line"),
        (SecretUrl("redis"), "http://:p@h", "does not begin with redis://", "give an address"),
    ],
)
def test_refused(kind: Kind, text: str, fault: str, remedy: str) -> None:
    with pytest.raises(FaultError) as caught:
        kind.parse(text)
    assert caught.value.fault == fault
    assert caught.value.remedy.startswith(remedy)


def test_a_secret_keeps_itself() -> None:
    secret = SecretStr("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret.get_secret_value() == "hunter2"
    assert secret == SecretStr("hunter2")
    assert secret != "hunter2"
    assert len({secret, SecretStr("hunter2")}) == 1
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
