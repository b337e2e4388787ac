"""Making and reusing an environment, with stand-ins for pip, uv and venv."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


class Tools:
    """Plays every program that `setup_env` starts, and keeps what was asked.

    Attributes:
        answers: by a word in the command: exit code and what goes to standard error.
    """

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.answers: dict[str, tuple[int, str]] = {}
        self.works = False

    def __call__(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(list(command))
        for word, (code, error) in self.answers.items():
            if word in command:
                return subprocess.CompletedProcess(list(command), code, "", error)
        if "venv" in command:
            folder = Path(command[-1])
            (folder / "bin").mkdir(parents=True)
            (folder / "Scripts").mkdir()
            (folder / "pyvenv.cfg").write_text("")
            self.works = True
        return subprocess.CompletedProcess(list(command), 0, str(Path(command[0]).parents[1]), "")

    @property
    def steps(self) -> list[str]:
        """The telling word of each command."""
        words = ("venv", "--version", "install")
        return [next((word for word in words if word in command), "ask") for command in self.commands]


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    import setup_env

    requirements = tmp_path / "requirements"
    requirements.mkdir()
    for purpose in setup_env.LOCKS:
        (requirements / f"{purpose}.txt").write_text(f"{purpose}==1\n")
    monkeypatch.setattr(setup_env, "ROOT", tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv(setup_env.OWN_PYTHON, raising=False)
    return setup_env


@pytest.fixture
def tools(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Tools:
    played = Tools()
    monkeypatch.setattr(setup, "_quietly", played)
    monkeypatch.setattr(setup, "_works", lambda python: played.works)
    return played


def test_made_once_and_reused_until_the_lock_changes(setup: ModuleType, tools: Tools, tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    python = setup.python_for("demo", venv)
    assert python == setup.interpreter(venv)
    assert tools.steps == ["venv", "--version", "install", "ask"] or tools.steps == ["venv", "install", "ask"]
    assert "--require-hashes" in tools.commands[-2]
    tools.commands.clear()
    setup.python_for("demo", venv)
    setup.python_for("bridge", venv)
    assert tools.commands == []
    setup.python_for("dev", venv)
    assert tools.steps == ["--version", "install", "ask"]
    tools.commands.clear()
    setup.python_for("demo", venv)
    assert tools.commands == []
    (tmp_path / "requirements/demo.txt").write_text("demo==2\n")
    setup.python_for("demo", venv)
    assert "install" in tools.steps


def test_line_ends_do_not_make_another_lock(setup: ModuleType, tools: Tools, tmp_path: Path) -> None:
    setup.python_for("demo", tmp_path / ".venv")
    tools.commands.clear()
    (tmp_path / "requirements/demo.txt").write_bytes(b"demo==1\r\n")
    setup.python_for("demo", tmp_path / ".venv")
    assert tools.commands == []


def test_an_environment_that_broke_is_made_anew(setup: ModuleType, tools: Tools, tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    setup.python_for("demo", venv)
    (venv / "left behind").write_text("")
    tools.works = False
    tools.commands.clear()
    setup.python_for("demo", venv)
    assert tools.steps[0] == "venv"
    assert not (venv / "left behind").exists()


def test_a_damaged_stamp_is_no_stamp(setup: ModuleType, tools: Tools, tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    setup.python_for("demo", venv)
    for text in ("{", "[]"):
        (venv / setup.STAMP).write_text(text)
        tools.commands.clear()
        setup.python_for("demo", venv)
        assert "install" in tools.steps
    assert set(json.loads((venv / setup.STAMP).read_text())) == {"bridge", "dashboard", "demo"}


def test_the_package_and_its_command_are_there(setup: ModuleType, tools: Tools, tmp_path: Path) -> None:
    venv = tmp_path / ".venv"
    setup.python_for("bridge", venv)
    assert (venv / "mt5_bridge_checkout.pth").read_text() == f"{tmp_path}\n"
    launcher = venv / ("Scripts/mt5-bridge.bat" if os.name == "nt" else "bin/mt5-bridge")
    assert "-m mt5_bridge" in launcher.read_text()


def test_uv_is_used_when_it_is_there(
    setup: ModuleType, tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/uv")
    setup.python_for("demo", tmp_path / ".venv")
    assert [command[0] for command in tools.commands[:2]] == ["/usr/bin/uv", "/usr/bin/uv"]
    assert tools.commands[1][:3] == ["/usr/bin/uv", "pip", "install"]
    (tmp_path / "requirements/demo.txt").write_text("demo==2\n")
    tools.commands.clear()
    setup.python_for("demo", tmp_path / ".venv")
    assert tools.steps == ["install", "ask"]


def test_pip_gets_a_try_when_uv_fails(
    setup: ModuleType,
    tools: Tools,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/uv")
    tools.answers["/usr/bin/uv"] = (2, "one\nno such index\n")
    setup.python_for("demo", tmp_path / ".venv")
    assert "uv did not manage (no such index), trying pip." in capsys.readouterr().out
    assert tools.commands[-2][1:4] == ["-m", "pip", "install"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("The virtual environment was not created successfully because ensurepip is not available.", "-venv\n"),
        ("/usr/bin/python3: No module named venv", "sudo apt install python"),
        ("Permission denied", "could not be made:\nPermission denied"),
    ],
)
def test_a_python_without_venv_is_told_plainly(
    setup: ModuleType, tools: Tools, tmp_path: Path, said: str, told: str
) -> None:
    tools.answers["venv"] = (1, said)
    with pytest.raises(setup.SetupError) as caught:
        setup.python_for("demo", tmp_path / ".venv")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("NewConnectionError: getaddrinfo failed\nERROR: No matching distribution found", "could not be reached"),
        ("ERROR: No matching distribution found for x", "has no fitting file for Python"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "not the one the lock names"),
        ("ERROR: something else", "pip could not install"),
    ],
)
def test_what_pip_says_is_put_into_words(setup: ModuleType, tools: Tools, tmp_path: Path, said: str, told: str) -> None:
    tools.answers["install"] = (1, said)
    with pytest.raises(setup.SetupError) as caught:
        setup.python_for("demo", tmp_path / ".venv")
    assert told in str(caught.value)
    assert said.splitlines()[-1] in str(caught.value)
    assert not (tmp_path / ".venv" / setup.STAMP).exists()


def test_a_folder_of_somebody_elses_is_left_alone(setup: ModuleType, tools: Tools, tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/thesis.txt").write_text("years of work")
    with pytest.raises(setup.SetupError, match="is no Python environment; move it away"):
        setup.python_for("demo", tmp_path / ".venv")
    assert (tmp_path / ".venv/thesis.txt").exists()


def test_an_interpreter_that_does_not_run_in_the_end(setup: ModuleType, tools: Tools, tmp_path: Path) -> None:
    tools.answers["-c"] = (1, "broken")
    with pytest.raises(setup.SetupError, match="does not run:\nbroken"):
        setup.python_for("demo", tmp_path / ".venv")


def test_an_own_interpreter_needs_no_environment(
    setup: ModuleType, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(setup.OWN_PYTHON, "/opt/python")
    assert setup.python_for("demo") == Path("/opt/python")
    assert tools.commands == []


def test_does_it_work(setup: ModuleType, tmp_path: Path) -> None:
    assert setup._works(Path(sys.executable))
    assert not setup._works(tmp_path / "none")
    (tmp_path / "text").write_text("no program")
    assert not setup._works(tmp_path / "text")


def test_a_program_that_is_not_there(setup: ModuleType, tmp_path: Path) -> None:
    done = setup._quietly([str(tmp_path / "none")])
    assert done.returncode == 127
    assert setup._last_line(done.stderr)
    assert setup._last_line("") == "no reason given"


def test_run_hands_over(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[list[str]] = []
    monkeypatch.setenv(setup.OWN_PYTHON, "/opt/python")

    def hand_over(command: list[str]) -> int:
        handed.append(command)
        return 7

    monkeypatch.setattr(setup, "hand_over", hand_over)
    assert setup.run("demo", ["-m", "x"]) == 7
    assert handed == [["/opt/python", "-m", "x"]]


@pytest.mark.parametrize("code", [2, 130])
def test_run_tells_why_not(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def fail(purpose: str) -> Path:
        raise setup.SetupError("no index") if code == 2 else KeyboardInterrupt

    monkeypatch.setattr(setup, "python_for", fail)
    assert setup.run("demo", []) == code
    assert ("no index" in capsys.readouterr().err) is (code == 2)


def test_beside_gives_the_exit_code_back(setup: ModuleType) -> None:
    assert setup.beside([sys.executable, "-c", "raise SystemExit(5)"]) == 5


def test_hand_over_replaces_the_process_or_waits() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r})\n"
        "from setup_env import hand_over\n"
        "sys.exit(hand_over([sys.executable, '-c', 'raise SystemExit(6)']))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 6


@pytest.mark.parametrize("script", ["demo", "test", "start_bridge"])
def test_a_python_too_old_is_told_in_a_language_it_knows(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (SCRIPTS / f"{script}.py").read_text()
    monkeypatch.setattr(sys, "version_info", (3, 8, 1))
    with pytest.raises(SystemExit) as ended:
        exec(compile(source, script, "exec"), {"__name__": "__main__"})  # noqa: S102 - as Python would run it
    assert ended.value.code == "MT5 Bridge needs Python 3.11 or later; this is 3.8."
    if script != "start_bridge":
        for word in ("f'", 'f"', ":=", " -> ", "match "):
            assert word not in source


def test_the_locks_name_no_index_and_every_file_has_a_hash() -> None:
    for purpose in ("bridge", "demo", "gateway", "dev"):
        text = (Path(__file__).parents[2] / "requirements" / f"{purpose}.txt").read_text()
        assert "://" not in text
        assert "--index" not in text
        pins = [line for line in text.splitlines() if not line.startswith(" ")]
        assert all("==" in pin and pin.endswith("\\") for pin in pins)
    assert "win32" in text
