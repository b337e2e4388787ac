"""The published JSON Schemas, as a backend would use them, and stricter: no field that they do not name."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = json.loads((ROOT / "docs/schemas.json").read_text(encoding="utf-8"))
DEFINITIONS: dict[str, Any] = DOCUMENT["definitions"]


def fault(name: str, message: Any, *, strict: bool = False) -> str | None:
    """What is wrong with a message by the schema of that name; None: nothing."""
    try:
        _validator(name, strict)(message)
    except fastjsonschema.JsonSchemaException as error:
        return f"{error}: {str(message)[:500]}"
    return None


def types(side: str) -> set[str]:
    """The types of the messages of one side, `from_bridge` or `to_bridge`."""
    return {name.partition(".")[2] for name in DEFINITIONS if name.startswith(f"{side}.")}


@cache
def _validator(name: str, strict: bool) -> Callable[[Any], Any]:
    definitions = {key: _closed(schema) for key, schema in DEFINITIONS.items()} if strict else DEFINITIONS
    found: Callable[[Any], Any] = fastjsonschema.compile(
        {"$schema": DOCUMENT["$schema"], "$ref": f"#/definitions/{name}", "definitions": definitions},
        use_default=False,
    )
    return found


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"additionalProperties": False} if "properties" in schema else schema
