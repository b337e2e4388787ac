"""The page on security: its messages are the bridge's. Its recipe is tried in `tests/kafka/test_recipe.py`."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/redpanda-security.md").read_text(encoding="utf-8")
SPOKEN = ("causes.py", "security.py", "gates.py")


def test_every_message_of_the_table_is_one_that_the_bridge_says() -> None:
    table = PAGE.partition("| the line says | do |")[2].partition("\n\n")[0]
    messages = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(messages) > 15
    room = ROOT / "mt5_bridge/redpanda"
    code = " ".join((room / name).read_text(encoding="utf-8") for name in SPOKEN)
    plain = " ".join(re.sub(r'"\s*\n\s*f?"', "", code).split())
    for message in messages:
        for part in message.split("…"):
            assert part.strip() in plain, message
