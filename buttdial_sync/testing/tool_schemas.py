"""The tools that each dialect has, and the check of a call's arguments against them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from buttdial_sync.testing.dialects import HOSTED, OPEN_SOURCE, Dialect

ToolSchema = Mapping[str, Any]

_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


@functools.cache
def _catalogue() -> Mapping[str, list[dict[str, Any]]]:
    text = resources.files("buttdial_sync.testing").joinpath("tools.json").read_text("utf-8")
    loaded: Mapping[str, list[dict[str, Any]]] = json.loads(text)
    return loaded


def tools_of(dialect: Dialect) -> dict[str, ToolSchema]:
    """All tools of a dialect: name to what ``tools/list`` says about it."""
    return {tool["name"]: tool for tool in _catalogue()[dialect.name]}


def arguments_of(tool: str) -> frozenset[str] | None:
    """The names of a tool's arguments, of both dialects; None if neither has the tool."""
    found = [tools[tool] for tools in map(tools_of, (HOSTED, OPEN_SOURCE)) if tool in tools]
    return frozenset().union(*(each["inputSchema"]["properties"] for each in found)) or None


def complaint(tool: ToolSchema, args: object) -> str | None:
    """Say what is wrong with a call's arguments, or None. Unknown arguments are fine."""
    if not isinstance(args, dict):
        return "arguments: expected object"
    schema: Mapping[str, Any] = tool.get("inputSchema", {})
    for key in schema.get("required", ()):
        if key not in args:
            return f"{key}: Required"
    properties = schema.get("properties", {})
    for key, value in args.items():
        problem = _value_complaint(properties.get(key, {}), value)
        if problem:
            return f"{key}: {problem}"
    return None


def understood(schema: Mapping[str, Any], value: Any) -> Any:
    """What is left of an argument: unknown keys are dropped without a word, defaults filled in."""
    properties = schema.get("properties")
    if not properties or not isinstance(value, dict):
        return value
    defaults = {key: each["default"] for key, each in properties.items() if "default" in each}
    given = {key: understood(properties[key], value[key]) for key in value if key in properties}
    return {**defaults, **given}


def _value_complaint(schema: Mapping[str, Any], value: object) -> str | None:
    wanted = str(schema.get("type"))
    if wanted in _PYTHON_TYPES and not _is_of(wanted, value):
        return f"Expected {wanted}, received {type(value).__name__}"
    if "enum" in schema and value not in schema["enum"]:
        return f"Invalid enum value, expected one of {schema['enum']}"
    if isinstance(value, list) and "items" in schema:
        return next(filter(None, (_value_complaint(schema["items"], each) for each in value)), None)
    return None


def _is_of(wanted: str, value: object) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    return isinstance(value, _PYTHON_TYPES[wanted])
