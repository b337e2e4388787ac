"""`docs/guards.md` says what the code does: the order of the chain, each rule in its own words, every code."""

import re
from pathlib import Path

from mt5_bridge.core.guards import chain
from mt5_bridge.core.messages import Reason

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "guards.md").read_text(encoding="utf-8")
SIZING = "size"
RULES = {guard.__name__: (guard.__doc__ or "").split("\n")[0] for guard in (*chain.OPENING_GUARDS, *chain.EXIT_GUARDS)}
RULES |= {guard.__name__: (guard.__doc__ or "").split("\n")[0] for guard in chain.SIZED_GUARDS}
RULES |= {guard.__name__: (guard.__doc__ or "").split("\n")[0] for guard in chain.LAST_GUARDS}
RULES |= {SIZING: "The volume is sized, or of a MODIFY taken from its target, and what it risks and binds."}


def _names(
    before: tuple[chain.Guard, ...], sized: tuple[chain.SizedGuard, ...], last: tuple[chain.Guard, ...]
) -> list[str]:
    return [*(g.__name__ for g in before), SIZING, *(g.__name__ for g in sized), *(g.__name__ for g in last)]


OPENING = _names(chain.OPENING_GUARDS, chain.SIZED_GUARDS, chain.LAST_GUARDS)
MODIFY = _names(chain.MODIFY_GUARDS, chain.RESIZED_GUARDS, chain.LAST_GUARDS)
EXIT = [guard.__name__ for guard in chain.EXIT_GUARDS]


def table() -> str:
    """The chain as the page shows it: one row a guard, in order, marked for whom it stands."""
    order = list(OPENING)
    order.insert(order.index("symbol"), "target")
    rows = [
        "| | guard | opening | MODIFY that raises risk | what reduces risk | rule |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for number, name in enumerate(order, 1):
        marks = " | ".join("●" if name in met else "" for met in (OPENING, MODIFY, EXIT))
        rows.append(f"| {number} | `{name}` | {marks} | {RULES[name]} |")
    return "\n".join(rows)


def test_the_table_is_the_chain() -> None:
    assert table() in PAGE, f"docs/guards.md must contain:\n{table()}"


def test_every_way_through_the_chain_keeps_the_tables_order() -> None:
    shown = re.findall(r"^\| \d+ \| `(\w+)`", PAGE, re.MULTILINE)
    for way in (OPENING, MODIFY, EXIT):
        rest = iter(shown)
        assert all(name in rest for name in way)


def test_every_code_is_explained() -> None:
    sources = (ROOT / "mt5_bridge" / "core").rglob("guards/*.py")
    used = {
        Reason[name].value for path in sources for name in re.findall(r"Reason\.([A-Z_]+)", path.read_text("utf-8"))
    }
    explained = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert used | {Reason.DAILY_LOSS.value, Reason.DRAWDOWN.value} == explained
