"""`init`: what is asked, and what becomes of `.env`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mt5_bridge.cli.wizard import complete, write
from mt5_bridge.settings.sources import from_dotenv

EXAMPLE = "# The account\nTERMINAL=mt5\nMT5_LOGIN=\n# MT5_SERVER=\n# MT5_MAGIC=235\n"


class Person:
    """Answers by the words of the question; empty where nothing is said."""

    def __init__(self, **answers: str | list[str]) -> None:
        self._answers = {word: [text] if isinstance(text, str) else list(text) for word, text in answers.items()}
        self.asked: list[tuple[str, str, bool]] = []

    def __call__(self, question: str, default: str, hidden: bool) -> str:
        self.asked.append((question, default, hidden))
        for word, answers in self._answers.items():
            if word in question and answers:
                return answers.pop(0)
        return default


def values(folder: Path) -> dict[str, str]:
    return {name: entry.text for name, entry in from_dotenv(folder / ".env").entries.items()}


@pytest.fixture
def real() -> Callable[[], Person]:
    return lambda: Person(number=["abc", "", "123"], Password="p w#1", server="Broker-Demo")


def test_only_what_is_missing_and_needed(tmp_path: Path, real: Callable[[], Person]) -> None:
    (tmp_path / ".env.example").write_text(EXAMPLE)
    person = real()
    written = complete(tmp_path, person, mode="hybrid", env={})
    assert written == ["MT5_LOGIN", "MT5_PASSWORD", "MT5_SERVER"]
    assert values(tmp_path) == {
        "TERMINAL": "mt5",
        "MT5_LOGIN": "123",
        "MT5_SERVER": "Broker-Demo",
        "MT5_PASSWORD": "p w#1",
    }
    text = (tmp_path / ".env").read_text()
    assert text.startswith("# The account\nTERMINAL=mt5\nMT5_LOGIN=123\nMT5_SERVER=Broker-Demo\n# MT5_MAGIC=235\n")
    assert [question for question, _, hidden in person.asked if hidden] == ["Password of the account"]
    assert "That is not a whole number: give a whole number" in person.asked[1][0]
    assert "(needed)" in person.asked[2][0]
    again = Person()
    assert complete(tmp_path, again, mode="hybrid", env={}) == []
    assert again.asked == []


def test_standard_mode_needs_a_backend_and_paper_no_account(tmp_path: Path) -> None:
    person = Person(WebSocket="ws://127.0.0.1:8000/")
    assert complete(tmp_path, person, mode="standard", env={"TERMINAL": "paper"}) == ["BACKEND_WS_URL"]


def test_what_the_environment_says_is_not_asked(tmp_path: Path) -> None:
    env = {"MT5_LOGIN": "1", "MT5_PASSWORD": "p", "MT5_SERVER": "s"}
    person = Person()
    assert complete(tmp_path, person, env=env) == []
    assert person.asked == []
    assert not (tmp_path / ".env").exists() or values(tmp_path) == {}


def test_everything_offers_what_is_known(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TERMINAL=paper\nBACKEND_AUTH_TOKEN=old\n")
    person = Person(Redpanda="h:1", WebSocket="ws://h/", Token="")
    written = complete(tmp_path, person, everything=True, env={})
    assert written == ["TERMINAL", "REDPANDA_BOOTSTRAP_SERVERS", "BACKEND_WS_URL"]
    assert [(default, hidden) for _, default, hidden in person.asked] == [
        ("paper", False),
        ("127.0.0.1:19092", False),
        ("", False),
        ("", True),
    ]
    assert values(tmp_path)["BACKEND_AUTH_TOKEN"] == "old"


def test_no_redpanda_is_asked_for_in_standard_mode(tmp_path: Path) -> None:
    person = Person(WebSocket="ws://h/")
    complete(tmp_path, person, everything=True, env={"MODE": "standard", "TERMINAL": "paper"})
    assert not any("Redpanda" in question for question, _, _ in person.asked)


@pytest.mark.parametrize("value", ["plain", "with space", "with # hash", "it's", 'say "x"', "C:\\new\\t", "a=b"])
def test_what_is_written_is_read_back(tmp_path: Path, value: str) -> None:
    (tmp_path / ".env").write_text("MT5_SERVER=old\nMT5_SERVER=older\n# MT5_SERVER=x")
    write(tmp_path / ".env", {"MT5_SERVER": value})
    assert values(tmp_path) == {"MT5_SERVER": value}
    assert "MT5_SERVER=old\n" in (tmp_path / ".env").read_text()
