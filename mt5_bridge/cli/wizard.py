"""`mt5-bridge init`: asks for what is missing and writes it to `.env`, leaving everything else in it as it is."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from mt5_bridge.settings import SPECS
from mt5_bridge.settings.kinds import OFF, FaultError
from mt5_bridge.settings.sources import from_dotenv

Ask = Callable[[str, str, bool], str]
"""Asks a person: question, default, whether to hide what is typed; gives the answer."""


class Question(msgspec.Struct, frozen=True):
    """A setting to ask for, in words; `needed` decides from the answers so far."""

    name: str
    words: str
    needed: Callable[[Mapping[str, str]], bool] = lambda answers: True
    required: bool = False


def _real(answers: Mapping[str, str]) -> bool:
    return answers.get("TERMINAL", "mt5").lower() == "mt5"


def _standard(answers: Mapping[str, str]) -> bool:
    return answers.get("MODE", "hybrid").lower() == "standard"


def questions(mode: str | None) -> list[Question]:
    """What a bridge of the given mode cannot guess."""
    standard = mode == "standard"
    return [
        Question("TERMINAL", "Trade on a real terminal (mt5) or on paper (paper)?"),
        Question("MT5_LOGIN", "MetaTrader 5 account number", _real, required=True),
        Question("MT5_PASSWORD", "Password of the account", _real, required=True),
        Question("MT5_SERVER", "Broker's server, as the terminal's login window names it", _real, required=True),
        Question(
            "REDPANDA_BOOTSTRAP_SERVERS", "Redpanda, host:port", lambda answers: not (standard or _standard(answers))
        ),
        Question(
            "BACKEND_WS_URL",
            "Backend's WebSocket address" + ("" if standard else " (leave empty for none)"),
            required=standard,
        ),
        Question("BACKEND_AUTH_TOKEN", "Token for the backend (leave empty for none)", lambda a: "BACKEND_WS_URL" in a),
    ]


def complete(
    folder: Path, ask: Ask, *, mode: str | None = None, everything: bool = False, env: Mapping[str, str] = os.environ
) -> list[str]:
    """Asks and writes `.env` in `folder`.

    Args:
        folder: where `.env` is, or will be; made from `.env.example` beside it when absent.
        ask: puts a question to the person.
        mode: what will be run; None: as the settings say.
        everything: ask for all; otherwise only for what no one has said yet and cannot be done without.
        env: the environment; what it says is not asked for.

    Returns:
        The names written.
    """
    path = folder / ".env"
    known = {name: entry.text for name, entry in from_dotenv(path).entries.items()} if path.exists() else {}
    known |= {name: env[name] for name in SPECS if env.get(name)}
    answers: dict[str, str] = {}
    for question in questions(mode):
        wanted = everything or (question.required and question.name not in known)
        if wanted and question.needed({**known, **answers}):
            text = _answer(question, ask, known.get(question.name))
            if text:
                answers[question.name] = text
    write(path, answers)
    return list(answers)


def _answer(question: Question, ask: Ask, known: str | None) -> str:
    """An answer that the setting accepts; empty to keep what is known, or where none is required."""
    spec = SPECS[question.name]
    hidden = spec.kind.secret
    default = known or ("" if spec.default is None or hidden else str(spec.default))
    words = question.words
    while True:
        text = ask(words, "" if hidden else default, hidden).strip()
        if not text:
            if known or not question.required:
                return ""
            words = f"{question.words} (needed)"
            continue
        if text == default:
            return text
        try:
            if not (spec.optional and text.lower() in OFF):
                spec.kind.parse(text)
        except FaultError as error:
            words = f"That {error.fault}: {error.remedy}. {question.words}"
            continue
        return text


def write(path: Path, values: Mapping[str, str]) -> None:
    """Sets names in a `.env` file: in place where they stand, commented out or not, else at the end."""
    example = path.with_name(".env.example")
    source = path if path.exists() else example
    lines = source.read_text(encoding="utf-8-sig").splitlines() if source.exists() else []
    for name, value in values.items():
        line = f"{name}={_quoted(value)}"
        at = _place(lines, name)
        if at is None:
            lines.append(line)
        else:
            lines[at] = line
    fresh = path.with_name(".env.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(lines) + "\n")
    fresh.replace(path)


def _place(lines: list[str], name: str) -> int | None:
    for pattern in (rf"\s*(?:export\s+)?{name}\s*=", rf"\s*#\s*{name}\s*="):
        for number in range(len(lines) - 1, -1, -1):  # the last one is the one that counts
            if re.match(pattern, lines[number]):
                return number
    return None


def _quoted(value: str) -> str:
    if re.fullmatch(r"[^\s#'\"]+", value):
        return value
    mark = "'" if "'" not in value else '"'
    return f"{mark}{value}{mark}"
