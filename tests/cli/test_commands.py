"""The commands of a person, end to end within this process."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.broker import free_port
from support.door import Door

from mt5_bridge import __version__, cli
from mt5_bridge.cli import commands, talk
from mt5_bridge.cli.doctor import Finding
from mt5_bridge.core.errors import JournalError
from mt5_bridge.journal.lock import InstanceLock
from mt5_bridge.settings import Settings


def succeeded(data: Any) -> bytes:
    return json.dumps({"success": True, "data": data}).encode() + b"\n"


def refused(code: str, message: str) -> bytes:
    return json.dumps({"success": False, "error": {"code": code, "message": message}}).encode() + b"\n"


class Shell:
    """Runs commands and keeps what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: str) -> int:
        code = cli.main(arguments)
        self.out, self.err = self._capsys.readouterr()
        return code


@pytest.fixture
def shell(home: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def test_help_lists_what_there_is_and_nothing_else(shell: Shell) -> None:
    assert shell("--help") == 0
    for command in [
        "run",
        "demo",
        "doctor",
        "init",
        "config",
        "status",
        "stop",
        "resume",
        "backend",
        "broker",
        "journal",
        "audit",
        "token",
        "dlq",
        "dashboard",
    ]:
        assert f" {command} " in shell.out
    assert " trade " not in shell.out


def test_without_a_command_it_shows_the_help_and_calls_it_a_mistake(shell: Shell) -> None:
    assert shell() == 2
    assert "Usage: mt5-bridge" in shell.out + shell.err


def test_an_unknown_command(shell: Shell) -> None:
    assert shell("trade") == 2
    assert "No such command" in shell.err


def test_version(shell: Shell) -> None:
    assert shell("--version") == 0
    assert shell.out == f"mt5-bridge {__version__}\n"


def test_config_check(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_VOLUM", "1")
    assert shell("config", "check") == 0
    assert "The settings are right: hybrid mode, paper terminal" in shell.out
    assert shell.err == "WARNING MAX_VOLUM: no such setting (environment); did you mean MAX_VOLUME?\n"
    monkeypatch.setenv("TICK_HZ", "-1")
    assert shell("config", "check", "--set", "MT5_MAGIC=0") == 2
    starts = [line.split(":")[0] for line in sorted(shell.err.splitlines())]
    assert starts == ["ERROR MT5_MAGIC", "ERROR TICK_HZ", "WARNING MAX_VOLUM"]


def test_config_check_opens_keys_and_certificates(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bridge.pem").write_text("no certificate")
    monkeypatch.setenv("REDPANDA_SECURITY_PROTOCOL", "SSL")
    monkeypatch.setenv("REDPANDA_SSL_CERT_FILE", str(tmp_path / "bridge.pem"))
    assert shell("config", "check") == 2
    assert shell.err.startswith("ERROR REDPANDA_SSL_CERT_FILE: ")
    assert shell("config", "check", "--set", "MODE=standard", "--set", "BACKEND_WS_URL=wss://far.example/") == 0


def test_config_show_masks_secrets_and_names_sources(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT5_PASSWORD", "hunter2")
    monkeypatch.setenv("BACKEND_WS_URL", "ws://me:hunter3@h:1/x?token=hunter4")
    Path(".env").write_text("TICK_HZ=5\nSYMBOLS=A,B\n")
    assert shell("config", "show", "--set", "max_daily_trades=off") == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in shell.out.splitlines()}
    assert "hunter" not in shell.out + shell.err
    assert rows["MT5_PASSWORD"] == "********** environment"
    assert rows["BACKEND_WS_URL"] == "ws://***@h:1/x?*** environment"
    assert rows["TICK_HZ"] == "5 .env line 1"
    assert rows["SYMBOLS"] == "A,B .env line 2"
    assert rows["MAX_DAILY_TRADES"] == "off command line"
    assert rows["TRADING_ENABLED"] == "false default"


def test_config_show_shows_what_there_is_whatever_is_wrong(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MT5_MAGIC", "abc")
    monkeypatch.setenv("MT5_PASSWORD", "hunter2")
    monkeypatch.setenv("BACKEND_WS_URL", "http://me:hunter3@h:1/x?token=hunter4")
    monkeypatch.setenv("MAX_VOLUM", "1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert shell("config", "show", "--set", "TERMINAL=mt5") == 2
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in shell.out.splitlines()}
    assert "hunter" not in shell.out + shell.err
    assert rows["TERMINAL"] == "mt5 command line"
    assert rows["MT5_PASSWORD"] == "********** environment"
    assert rows["MT5_MAGIC"] == "abc (!) environment"
    assert rows["BACKEND_WS_URL"] == "http://***@h:1/x?*** (!) environment"
    assert rows["TRADING_ENABLED"] == "false default"
    starts = [line.split(":")[0] for line in shell.err.splitlines()]
    assert starts[0] == "WARNING MAX_VOLUM"
    assert sorted(starts[1:]) == [f"ERROR {name}" for name in ("BACKEND_WS_URL", "MT5_LOGIN", "MT5_MAGIC", "TERMINAL")]


def test_a_misspelt_name_is_pointed_out_beside_the_fault_it_may_have_caused(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKEND_WS_ULR", "ws://h/")
    for command in (("config", "check", "--set", "MODE=standard"), ("run", "--mode", "standard")):
        assert shell(*command) == 2
        assert "did you mean BACKEND_WS_URL?" in shell.err
        assert "ERROR BACKEND_WS_URL: is not set" in shell.err


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("MT5_LOGN=1", "MT5_LOGN: no such setting (command line); did you mean MT5_LOGIN?"),
        ("ZZZZ=1", "ZZZZ: no such setting (command line); mt5-bridge config show lists them"),
        ("MT5_LOGIN", "--set MT5_LOGIN: is not NAME=VALUE; write it so"),
    ],
)
def test_wrong_overrides(shell: Shell, given: str, line: str) -> None:
    for command in (("config", "check"), ("run",)):
        assert shell(*command, "--set", given) == 2
        assert shell.err == f"ERROR {line}\n"


def test_run_refuses_wrong_settings_with_one_line_each(shell: Shell) -> None:
    assert shell("run", "--mode", "standard") == 2
    assert shell.err.startswith("ERROR BACKEND_WS_URL: is not set, but standard mode")


def test_status_of_a_running_bridge(shell: Shell, home: Path) -> None:
    data = {"status": "ok", "halt": None, "channels": {"terminal": "connected"}, "rss_mb": 41.23456789, "ready": True,
            "symbols": ["A", "B"]}  # fmt: skip
    with Door(home / "data/control.json", lambda request: succeeded(data)) as door:
        assert shell("status") == 0
    assert door.requests == [{"token": "t0ken", "command": "status", "params": {}}]
    assert shell.out.splitlines() == [
        "status: ok",
        "halt: -",
        "channels:",
        "  terminal: connected",
        "rss_mb: 41.2346",
        "ready: yes",
        "symbols: A, B",
    ]


def test_stop_and_resume_of_a_running_bridge(shell: Shell, home: Path) -> None:
    with Door(home / "data/control.json", lambda request: succeeded("done")) as door:
        assert shell("stop", "--reason", "news", "--by", "me", "--no-close-positions", "--scope", "mine") == 0
        assert shell("resume", "--reason", "over", "--by", "me", "--force") == 0
    assert [request["params"] for request in door.requests] == [
        {"reason": "news", "by": "me", "close_positions": False, "scope": "mine"},
        {"reason": "over", "by": "me", "force": True},
    ]


def test_a_refusal_is_told(shell: Shell, home: Path) -> None:
    with Door(home / "data/control.json", lambda request: refused("survivors", "two positions are open")):
        assert shell("resume", "--reason", "x") == 1
    assert shell.err == "ERROR survivors: two positions are open\n"


def test_a_wrong_scope_is_told_before_anything_is_done(shell: Shell, home: Path) -> None:
    assert shell("stop", "--scope", "some") == 2
    assert not (home / "data").exists()


def test_without_a_bridge_the_latch_is_on_disk(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICK_HZ", "wrong, but no reason not to stop")
    assert shell("status") == 1
    assert "Never ran on this folder." in shell.out
    assert shell("stop", "--reason", "fire", "--by", "me") == 0
    assert "Not running: no bridge runs on this folder" in shell.out
    assert ", by me: fire" in shell.out
    assert shell("status", "--data-dir", str(home / "data")) == 1
    assert "Trading is HALTED since " in shell.out
    assert shell("resume", "--reason", "out", "--by", "me") == 0
    assert "Trading is ACTIVE since " in shell.out


def test_a_bridge_that_hangs_gets_the_stop_file(shell: Shell, home: Path) -> None:
    (home / "data").mkdir()
    with InstanceLock(home / "data/journal.db.lock"):
        assert shell("stop", "--reason", "fire", "--by", "me") == 1
    assert (home / "data/EMERGENCY_STOP").read_text() == "fire\nby me\n"
    assert "it does not answer" in shell.err
    with InstanceLock(home / "data/journal.db.lock"):
        assert shell("resume", "--reason", "x") == 4


def test_the_story_of_a_signal(shell: Shell, home: Path) -> None:
    assert shell("journal", "s1") == 1
    assert "no journal in" in shell.err
    assert shell("stop") == 0
    assert shell("journal", "s1") == 1
    assert shell.out == "No signal s1 in the journal\n"


def test_init_asks_and_writes(shell: Shell, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["paper\n", "\n", "\n"])

    class Person:
        @staticmethod
        def isatty() -> bool:
            return False

        @staticmethod
        def readline() -> str:
            return next(answers)

    monkeypatch.delenv("TERMINAL")
    monkeypatch.setattr(sys, "stdin", Person)
    assert shell("init") == 0
    assert (home / ".env").read_text() == "TERMINAL=paper\nREDPANDA_BOOTSTRAP_SERVERS=127.0.0.1:19092\n"
    assert "Written to" in shell.out


def test_init_without_anybody_to_answer(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody:
        @staticmethod
        def isatty() -> bool:
            return False

        @staticmethod
        def readline() -> str:
            return ""

    monkeypatch.setattr(sys, "stdin", Nobody)
    assert shell("init") == 2
    assert "nobody answers here" in shell.err
    assert shell("init", "--missing") == 0
    assert shell.out == ""


def test_a_hidden_answer_is_read_without_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda question: f"typed to {question}")
    assert talk.ask("Password", "", True) == "typed to Password: "


@pytest.mark.parametrize("command", ["demo", "backend", "broker", "run"])
def test_commands_with_a_process_of_their_own_take_their_own_arguments(
    shell: Shell, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        shell(command, "--help")
    assert ended.value.code == 0


def test_they_are_reached_through_the_list_too(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []

    def note(arguments: object) -> int:
        started.append(arguments)
        return 4

    monkeypatch.setattr("mt5_bridge.cli.daemon.main", note)
    assert commands.main(["run", "--mode", "hybrid"]) == 4
    assert started == [["--mode", "hybrid"]]


def test_the_audit_tells_who_did_what(shell: Shell, home: Path) -> None:
    assert shell("audit") == 1
    assert "no journal in" in shell.err
    assert shell("stop", "--reason", "drill", "--by", "ann") == 0
    assert shell("audit") == 0
    (line,) = shell.out.splitlines()[1:]
    assert line.split()[1:] == ["ann", "local", "halted", "drill"]
    assert shell("resume", "--reason", "fine", "--by", "bob") == 0
    assert shell("audit", "--json", "--limit", "1") == 0
    (told,) = map(json.loads, shell.out.splitlines())
    assert (told["who"], told["what"], told["detail"]) == ("bob", "local active", "fine")
    assert told["at"].endswith("Z")


def test_a_token_for_the_gateway(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell("token", "ann", "--scope", "read") == 2
    assert "GATEWAY_JWT_KEY: is not set" in shell.err
    monkeypatch.setenv("GATEWAY_JWT_KEY", "a key that is long enough to sign tokens with")
    assert shell("token", "ann", "--scope", "read", "--scope", "stop", "--hours", "1") == 0
    assert shell.out.count(".") == 2
    assert len(shell.out.splitlines()) == 1


def test_a_defect_of_the_journal_is_one_line(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise JournalError("the journal is damaged")

    monkeypatch.setattr("mt5_bridge.cli.offline.story", broken)
    assert shell("journal", "x") == 1
    assert shell.err == "ERROR the journal is damaged\n"


def test_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    talk.table(("a", "b"), [("x", "FAIL"), ("y", "ok")])
    out = capsys.readouterr().out
    assert "\x1b[1;31mFAIL" in out


def test_what_a_pipe_cannot_hold_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", pipe)
    talk.say("ü €")
    talk.say("\u4e2d")
    pipe.flush()
    assert pipe.buffer.getvalue() == "ü €\n\\u4e2d\n".encode("cp1252")


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise OSError("no name")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert talk.user_name() == "local"


def test_doctor_gives_its_report_and_no_log(home: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "mt5_bridge",
        "doctor",
        "--set",
        f"REDPANDA_BOOTSTRAP_SERVERS=127.0.0.1:{free_port()}",
    ]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    told = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=env, timeout=50)
    assert told.returncode == 1
    assert told.stderr == ""
    lines = told.stdout.splitlines()
    assert lines[0].startswith("check ")
    assert len(lines) == 12


def test_doctor_tells_what_fails_and_what_to_do(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("clock", True, "now", "none needed"), Finding("Redpanda", False, "refused", "start it")]

    async def examine(settings: Settings) -> list[Finding]:
        return found

    monkeypatch.setattr("mt5_bridge.cli.doctor.examine", examine)
    assert shell("doctor") == 1
    assert [line.split() for line in shell.out.splitlines()] == [
        ["check", "found", "remedy"],
        ["clock", "ok", "now"],
        ["Redpanda", "FAIL", "refused", "start", "it"],
    ]
    found.pop()
    assert shell("doctor") == 0
