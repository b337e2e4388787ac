"""The client of the daemon's local door."""

import socket
from pathlib import Path

import pytest
from support.door import Door

from mt5_bridge.cli.local import NotRunning, ask


def test_no_file_no_bridge(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="no bridge runs on this folder"):
        ask(tmp_path / "control.json", "status")


def test_a_file_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "control.json").write_text("{}")
    with pytest.raises(NotRunning, match=r"control\.json cannot be read"):
        ask(tmp_path / "control.json", "status")


def test_a_file_left_by_a_bridge_that_died(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (tmp_path / "control.json").write_text(f'{{"port": {port}, "token": "t", "pid": 99}}')
    with pytest.raises(NotRunning, match=r"the bridge \(process 99\) does not answer"):
        ask(tmp_path / "control.json", "status")


@pytest.mark.parametrize("line", [b"", b"not json\n", b'{"data": 1}\n', b'{"success": tr'])
def test_an_answer_that_is_none(tmp_path: Path, line: bytes) -> None:
    with (
        Door(tmp_path / "control.json", lambda request: line),
        pytest.raises(NotRunning, match="does not answer"),
    ):
        ask(tmp_path / "control.json", "status")


def test_a_long_answer(tmp_path: Path) -> None:
    long = "x" * 300_000
    with Door(tmp_path / "control.json", lambda request: b'{"success": true, "data": "%s"}\n' % long.encode()):
        assert ask(tmp_path / "control.json", "status").data == long


def test_a_bridge_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mt5_bridge.cli.local.ANSWER_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "control.json").write_text(f'{{"port": {server.getsockname()[1]}, "token": "t", "pid": 99}}')
        with pytest.raises(NotRunning, match="does not answer: timed out"):
            ask(tmp_path / "control.json", "stop")
