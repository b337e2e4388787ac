"""What the documents say is so: generated parts are up to date, links lead somewhere, named files exist."""

import re
import runpy
from pathlib import Path

import pytest

from mt5_bridge.core.wire import decode, decode_signal

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
PROMISES = [f"P{number}" for number in range(1, 14)]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_generated_parts_are_those_of_the_code() -> None:
    main = runpy.run_path(str(ROOT / "scripts/docs.py"), run_name="scripts.docs")["main"]
    assert main(["--check"]) == 0, "run python scripts/docs.py"


def test_code_named_in_the_documents_exists() -> None:
    named: set[str] = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named |= set(re.findall(r"`((?:core|flows|control|terminal|mt5_bridge|tests|scripts|docker)/[\w./]*)`", text))
    assert named
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "mt5_bridge" / name).exists()]
    assert not missing


def test_examples_in_the_readme_are_valid() -> None:
    found = FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    python = [code for language, code in found if language == "python"]
    assert python
    for code in python:
        compile(code, "README.md", "exec", flags=8192)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    signal = re.search(r"send_signal\(\s*(\{.*?\})\s*\)", "".join(python), re.DOTALL)
    assert signal is not None
    decode_signal(signal[1].encode())


def test_the_envelope_in_the_contract_decodes() -> None:
    [(_, example)] = [
        f for f in FENCE.findall((ROOT / "docs/contract.md").read_text(encoding="utf-8")) if f[0] == "json"
    ]
    assert decode(example.encode()).type == "tick_data"


def test_decisions_are_numbered_without_gaps_and_say_what_an_adr_says() -> None:
    records = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text(encoding="utf-8")
        for heading in ("## Context", "## Decision", "## Consequences"):
            assert heading in text, f"{record.name} lacks {heading!r}"


def test_tests_named_in_the_documents_exist() -> None:
    named = {name for page in PAGES for name in TEST.findall(page.read_text(encoding="utf-8"))}
    assert named
    missing = [
        f"{path}::{name}"
        for path, name in sorted(named)
        if not (ROOT / path).exists() or f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]
    assert not missing


def test_every_promise_names_the_tests_that_prove_it() -> None:
    text = (ROOT / "docs/safety.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (P\d+) \| (`tests/.*) \|$", text, re.MULTILINE))
    assert list(rows) == PROMISES
    for promise, tests in rows.items():
        assert TEST.findall(tests), promise


def test_every_rule_names_the_tests_that_fail_without_it() -> None:
    text = (ROOT / "docs/safety.md").read_text(encoding="utf-8")
    [section] = re.findall(r"^## Rule by rule$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert re.findall(r"^### (.+)$", section, re.MULTILINE) == ["Halt", "Signals", "Orders", "Ticks", "Delivery"]
    rows = [row.split(" | ") for row in re.findall(r"^\| (.+) \|$", section, re.MULTILINE)]
    rules = [row for row in rows if row not in (["rule", "tests"], ["---", "---"])]
    assert rules
    assert all(len(row) == 2 and TEST.findall(row[1]) for row in rules)
    assert len({rule for rule, _ in rules}) == len(rules)
