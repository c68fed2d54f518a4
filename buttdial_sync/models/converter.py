"""The one converter from decoded JSON to result objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Annotated, Any, TypeVar, get_origin

import attrs
from cattrs import Converter, transform_error
from cattrs.gen import make_dict_structure_fn, override

from buttdial_sync.errors import ProtocolError
from buttdial_sync.errors.moments import parse_moment
from buttdial_sync.models.names import snake_case
from buttdial_sync.models.tool_result import ToolResult

T = TypeVar("T")

KEPT_AS_IT_CAME = "__kept_as_it_came__"
"""A class with this attribute falls back to ``raw`` alone if its fields do not validate."""

LenientCount = Annotated[int, "None where the server wrote something else"]
"""A number that is not worth losing what it stands beside."""

Identifier = Annotated[str, "an id"]
"""An id: text for all who read it, though some servers send numbers."""


def structure(data: Any, kind: type[T], *, source: str) -> T:
    """
    Make a result object of decoded JSON.

    Keys are read in camelCase and snake_case alike, camelCase first. Unknown keys are kept in the
    object's ``raw``. Nothing is coerced: a number is not text, and null is not ``"None"``. A
    field whose metadata have ``"names"`` is the first of these that is there; ``"a.b"`` is the
    ``b`` of the object ``a``.

    Args:
        data: The decoded JSON.
        kind: An attrs class, or a list or dict of them.
        source: What answered, for the error message.

    Returns:
        An instance of ``kind``.

    Raises:
        ProtocolError: The answer lacks a required field or has one of another type; the message
            has its path. Its ``outcome`` is ``"sent"``: the server did answer.
    """
    try:
        return _converter().structure(data, kind)
    except Exception as exc:  # noqa: BLE001 - cattrs raises groups of whatever a hook raised
        faults = "; ".join(transform_error(exc, path="$"))
        raise ProtocolError(
            f"{source} answered in an unexpected shape: {faults}",
            stage="parse",
            outcome="sent",
            remediation="The server's version may be newer than this library: see the body.",
            body=data,
        ) from None


@lru_cache(maxsize=1)
def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=False)
    for primitive in (str, bool):
        converter.register_structure_hook(primitive, _exactly(primitive))
    converter.register_structure_hook(int, _whole_number)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(Decimal, lambda value, _: _amount(value))
    converter.register_structure_hook(datetime, lambda value, _: parse_moment(value))
    converter.register_structure_hook_func(
        lambda kind: kind == Identifier, lambda value, _: _identifier(value)
    )
    converter.register_structure_hook_func(
        lambda kind: kind == LenientCount,
        lambda value, _: value if type(value) is int else None,
    )
    converter.register_structure_hook(ToolResult, lambda value, _: ToolResult(raw=value))
    converter.register_structure_hook_factory(attrs.has, lambda kind: _object_hook(converter, kind))
    return converter


def _object_hook(converter: Converter, kind: type[Any]) -> Callable[[Any, Any], Any]:
    attrs.resolve_types(kind)
    renamed = {
        field.name: override(rename=field.metadata["wire"])
        for field in attrs.fields(kind)
        if "wire" in field.metadata
    }
    structure_dict = make_dict_structure_fn(kind, converter, **renamed)  # type: ignore[arg-type]
    is_kept = getattr(kind, KEPT_AS_IT_CAME, False)
    has_raw = any(field.name == "raw" for field in attrs.fields(kind))
    aliases = {
        field.name: field.metadata["names"]
        for field in attrs.fields(kind)
        if "names" in field.metadata
    }

    lists = [field.name for field in attrs.fields(kind) if get_origin(field.type) is list]

    def structure_object(data: Any, target: Any) -> Any:
        if not isinstance(data, Mapping):
            if is_kept:
                return kind(raw=data)
            raise TypeError("expected an object")
        fields = _with_snake_case_keys(data)
        for name, others in aliases.items():
            fields.update(_found(data, name, others))
        if has_raw:
            fields["raw"] = data
        try:
            for name in lists:
                if isinstance(fields.get(name), str | Mapping):  # cattrs would walk through it
                    raise TypeError(f"{name}: expected a list")  # noqa: TRY301 - kept below
            return structure_dict(fields, target)
        except Exception:  # cattrs raises groups of whatever a hook raised
            if not is_kept:
                raise
            return kind(raw=data)

    return structure_object


def _with_snake_case_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in data.items():
        name = snake_case(str(key))
        if fields.get(name) is None or (name != key and value is not None):
            fields[name] = value
    return fields


def _found(data: Mapping[str, Any], name: str, others: Iterable[str]) -> dict[str, Any]:
    for other in others:
        value: Any = data
        for part in other.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return {name: value}
    return {}


def _exactly(primitive: type[T]) -> Callable[[Any, Any], T]:
    def check(value: Any, _: Any) -> T:
        if not isinstance(value, primitive):
            raise TypeError(f"expected {primitive.__name__}, got {type(value).__name__}")
        return value

    return check


def _whole_number(value: Any, _: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected int, got {type(value).__name__}")
    return value


def _number(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    return float(value)


def _amount(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError(f"expected an amount, got {type(value).__name__}")
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise ValueError("not an amount") from None


def _identifier(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"expected an id, got {type(value).__name__}")
    return str(value)
