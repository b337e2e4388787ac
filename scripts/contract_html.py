"""docs/reference.html: the AsyncAPI document as one small page, without scripts and without anything to load."""

import re
from html import escape
from typing import Any

import yaml

Part = dict[str, Any]

_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
body { color: #1b1f24; background: #fff; } code { font: 13px/1.4 ui-monospace, monospace; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; }
h3 { margin: 1.6rem 0 .3rem; } h3 code { font-size: 1.1rem; }
th, td { border-bottom: 1px solid #8884; padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top; }
td:first-child { white-space: nowrap; } a { color: #0b61c4; text-decoration: none; }
@media (prefers-color-scheme: dark) { body { color: #d7dce2; background: #14171b; } a { color: #6db3ff; } }"""


def page(asyncapi: str) -> str:
    """The page of a document."""
    document: Part = yaml.safe_load(asyncapi)
    schemas: Part = document["components"]["schemas"]
    plain = {name: schema for name, schema in schemas.items() if "." not in name}
    sides = [
        _side(schemas, "from_bridge", "What the bridge sends"),
        _side(schemas, "to_bridge", "What it takes"),
        _side(schemas, "from_gateway", "What the gateway sends besides"),
        _side(schemas, "to_gateway", "What the gateway takes besides"),
    ]
    parts = [
        f"<h1>{escape(document['info']['title'])} {escape(document['info']['version'])}</h1>",
        f"<p>{_words(document['info']['description'])}</p>",
        "<h2>Channels</h2>",
        _table(("channel", "what", "messages"), [_channel(name, each) for name, each in document["channels"].items()]),
        *sides,
        "<h2>What they are made of</h2>",
        *(_schema(name, schema) for name, schema in plain.items()),
    ]
    head = f'<meta charset="utf-8"><title>MT5 Bridge: messages</title><style>\n{_STYLE}\n</style>'
    note = "<!-- Written by scripts/docs.py. -->"
    return (
        f'<!doctype html>\n{note}\n<html lang="en"><head>{head}</head><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _channel(name: str, channel: Part) -> tuple[str, str, str]:
    links = [_message(message, part["$ref"].rpartition("/")[2]) for message, part in channel["messages"].items()]
    return f"<code>{escape(name)}</code>", _words(channel["description"]), " ".join(links)


def _message(listed: str, meant: str) -> str:
    """A link to a message's schema, which is named by who sends it to whom."""
    type = listed.removeprefix("command.").removeprefix("client.")
    if type == "dead_letter":
        return escape(type)
    if meant.startswith("gateway."):
        return _link(f"{'to' if listed != type else 'from'}_gateway.{type}", type)
    taken = type != listed or type == "trading_signal"
    return _link(f"{'to' if taken else 'from'}_bridge.{type}", type)


def _side(schemas: Part, side: str, title: str) -> str:
    found = {name: schema for name, schema in schemas.items() if name.startswith(f"{side}.")}
    return f"<h2>{title}</h2>\n" + "\n".join(_schema(name, schema) for name, schema in found.items())


def _schema(name: str, schema: Part) -> str:
    title = f'<h3 id="{escape(name)}"><code>{escape(name.rpartition(".")[2])}</code></h3>'
    about = f"<p>{_words(schema['description'])}</p>" if "description" in schema else ""
    if "properties" not in schema:
        return title + about + f"<p>{_kind(schema)}</p>"
    rows = [
        (
            f"<code>{escape(field)}</code>{'' if field in schema.get('required', ()) else ' ?'}",
            _kind(kind),
            _words(kind.get("description", "")),
        )
        for field, kind in schema["properties"].items()
    ]
    return title + about + _table(("field", "type", ""), rows)


def _table(heads: tuple[str, ...], rows: list[tuple[str, str, str]]) -> str:
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    head = "".join(f"<th>{each}</th>" for each in heads)
    return f"<table><tr>{head}</tr>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "\n</table>"


def _words(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text, quote=False))


def _link(name: str, text: str) -> str:
    return f'<a href="#{escape(name)}"><code>{escape(text)}</code></a>'


def _kind(kind: Part) -> str:
    """A schema in words."""
    if "$ref" in kind:
        name = kind["$ref"].rpartition("/")[2]
        return _link(name, name)
    if "const" in kind:
        return f"<code>{escape(str(kind['const']).replace('True', 'true').replace('False', 'false'))}</code>"
    if "enum" in kind:
        return " ".join(f"<code>{escape('null' if each is None else str(each))}</code>" for each in kind["enum"])
    if "oneOf" in kind:
        return "one of:<br>" + "<br>".join(_branch(each) for each in kind["oneOf"])
    if "anyOf" in kind:
        return " or ".join(_kind(each) for each in kind["anyOf"])
    if "items" in kind:
        return f"list of {_kind(kind['items'])}"
    names = kind.get("type", "anything")
    return escape(" or ".join(names) if isinstance(names, list) else names) + escape(_limits(kind))


def _branch(kind: Part) -> str:
    return "{" + ", ".join(f"{escape(name)}: {_kind(each)}" for name, each in kind["properties"].items()) + "}"


def _limits(kind: Part) -> str:
    words = {
        "minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}",
        "minLength": "at least {} characters", "maxLength": "at most {} characters",
        "minItems": "at least {}", "maxItems": "at most {}",
    }  # fmt: skip
    found = [text.format(kind[name]) for name, text in words.items() if name in kind]
    return f", {' '.join(found)}" if found else ""
