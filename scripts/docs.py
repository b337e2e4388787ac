"""Write the parts of docs/ that follow from the code: field tables, settings, JSON Schemas, AsyncAPI, OpenAPI.

    python scripts/docs.py            # rewrite them
    python scripts/docs.py --check    # exit code 1 when they differ from the code

Run it on the project's .venv. A test runs the check.
"""

import json
import re
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as types

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import contract_asyncapi
import contract_html
import contract_schemas

from mt5_bridge.control.commands import ALIASES, COMMANDS
from mt5_bridge.core import messages
from mt5_bridge.gateway.app import ROUTERS
from mt5_bridge.gateway.catalogue import SECTIONS
from mt5_bridge.gateway.description import described
from mt5_bridge.settings.kinds import FaultError, PathText
from mt5_bridge.settings.names import FEATURES_TO_COME, SPECS, Spec

DOCS = Path(__file__).resolve().parents[1] / "docs"
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_NAMES: dict[type, str] = {
    types.StrType: "text",
    types.IntType: "whole number",
    types.FloatType: "number",
    types.BoolType: "true or false",
}


def type_name(kind: types.Type) -> str:
    """A field's type in words."""
    if isinstance(kind, types.UnionType):
        return " or ".join(type_name(k) for k in kind.types if not isinstance(k, types.NoneType))
    if isinstance(kind, types.EnumType):
        return "one of " + " ".join(f"`{member.value}`" for member in kind.cls)
    if isinstance(kind, types.LiteralType):
        return "one of " + " ".join(f"`{value}`" for value in kind.values)
    if isinstance(kind, types.ListType):
        return f"list of {type_name(kind.item_type)}"
    if isinstance(kind, types.StructType):
        return "{" + " ".join(field.encode_name for field in kind.fields) + "}"
    return _NAMES[type(kind)]


def fields(struct: type[msgspec.Struct]) -> list[types.Field]:
    """A message's fields, without those of the message it extends."""
    described = types.type_info(struct)
    assert isinstance(described, types.StructType)
    base = struct.__mro__[1]
    known = base.__struct_fields__ if issubclass(base, msgspec.Struct) else ()
    return [field for field in described.fields if field.name not in known]


def message(struct: type[msgspec.Struct]) -> str:
    """A message's fields as a table."""
    rows = ["| field | type |", "| --- | --- |"]
    for field in fields(struct):
        needed = ", required" if field.required and struct is messages.TradingSignal else ""
        rows.append(f"| `{field.encode_name}` | {type_name(field.type)}{needed} |")
    return "\n".join(rows) + "\n"


def words(enum: type[StrEnum]) -> str:
    """An enum's values in one paragraph."""
    return "\n" + ", ".join(f"`{member.value}`" for member in enum) + "\n\n"


def commands() -> str:
    """The table of commands."""
    rows = ["| command | parameters | acts |", "| --- | --- | --- |"]
    for name, spec in COMMANDS.items():
        parameters = " ".join(f"{f.encode_name}{'' if f.required else '?'}" for f in fields(spec.params))
        rows.append(f"| `{name}` | {parameters} | {'yes' if spec.acts else ''} |")
    return "\n".join(rows) + "\n"


def aliases() -> str:
    """Other names of commands."""
    pairs = [f"`{name}` = `{meant}`" for name, meant in ALIASES.items() if name != meant]
    return "\n" + ", ".join(pairs) + "\n"


def block(name: str) -> str:
    """The text of one generated block of contract.md."""
    written: dict[str, Callable[[], str]] = {"commands": commands, "aliases": aliases}
    if name in written:
        return written[name]()
    found: Any = getattr(messages, name)
    return words(found) if issubclass(found, StrEnum) else message(found)


def contract(text: str) -> str:
    """docs/contract.md with its blocks as the code has them."""
    return _BLOCK.sub(lambda found: found[1] + block(found[2]) + found[3], text)


def accepts(spec: Spec) -> str:
    """What a setting accepts, in the words it refuses other values with."""
    text = "text"
    try:
        spec.kind.parse("\x01")
    except FaultError as error:
        if error.remedy.startswith("give "):
            text = error.remedy.removeprefix("give ")
    if isinstance(spec.kind, PathText):
        text = "a path"
    can_be_off = spec.optional and spec.default is not None
    return text.replace("|", "\\|") + ("; `off` switches it off" if can_be_off else "")


def default(spec: Spec) -> str:
    """A setting's default as it would be written."""
    value = spec.default
    if spec.name == "BRIDGE_ID":
        return "the host's name"
    if spec.name == "DATA_DIR":
        return "the user's data folder"
    if value is None or value in ((), ""):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def settings() -> str:
    """docs/settings.md."""
    rows = [
        "# Settings",
        "",
        "Read once at the start; later places win: defaults, `mt5_bridge.yaml`, `mt5_bridge.{ENVIRONMENT}.yaml`,",
        "`.env`, environment, command line. YAML may be flat or nested (`mt5_bridge: {mt5: {login: 12345}}`).",
        "`mt5-bridge config show` prints each with where it came from, and `.env.example` explains them. A wrong value",
        "stops the start with one line that names the setting, the fault and the remedy. Written by `scripts/docs.py`.",
        "",
        "| setting | default | accepts |",
        "| --- | --- | --- |",
    ]
    for spec in SPECS.values():
        later = " *(checked, without effect in this version)*" if spec.name in FEATURES_TO_COME else ""
        rows.append(f"| `{spec.name}` | {default(spec)} | {accepts(spec)}{later} |")
    return "\n".join(rows) + "\n"


def metrics(text: str) -> str:
    """docs/observability.md with the metrics as the catalogue has them."""
    rows = []
    for title, families in SECTIONS.items():
        rows += [f"### {title}", "", "| metric | type | unit | labels | meaning |", "| --- | --- | --- | --- | --- |"]
        for family in families:
            labels = " ".join(f"`{label}`" for label in family.labels)
            rows.append(f"| `{family.name}` | {family.kind} | {family.unit} | {labels} | {family.meaning} |")
        rows.append("")
    written = "\n".join(["", *rows])
    return _BLOCK.sub(lambda found: found[1] + written + found[3], text)


def main(arguments: list[str]) -> int:
    """Rewrite the pages, or say which differ."""
    page, observability = DOCS / "contract.md", DOCS / "observability.md"
    asyncapi = contract_asyncapi.document()
    texts = {
        page: contract(page.read_text(encoding="utf-8")),
        DOCS / "settings.md": settings(),
        DOCS / "schemas.json": contract_schemas.text(),
        DOCS / "asyncapi.yaml": asyncapi,
        DOCS / "reference.html": contract_html.page(asyncapi),
        observability: metrics(observability.read_text(encoding="utf-8")),
        DOCS / "openapi.json": json.dumps(described(ROUTERS), indent=1, ensure_ascii=False) + "\n",
    }
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            sys.stderr.write(f"docs/{path.name} differs from the code: run python scripts/docs.py\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(texts[path], encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
