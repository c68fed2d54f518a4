"""The one converter from decoded JSON to result objects."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import cache, partial
from typing import Annotated, Any, TypeVar, get_args, get_origin

import attrs
from cattrs import Converter, transform_error
from cattrs.gen import make_dict_structure_fn, override

from buttdial_sync.errors import ProtocolError
from buttdial_sync.errors.moments import parse_moment
from buttdial_sync.models.names import snake_case
from buttdial_sync.models.tool_result import ToolResult

T = TypeVar("T")

logger = logging.getLogger("buttdial_sync.models")

KEPT_AS_IT_CAME = "__kept_as_it_came__"
"""What is not even an object becomes an object of a class with this attribute, in its ``raw``."""

MUST_FIT = "must_fit"
"""A field with this in its metadata has to fit, although it has a default."""

Identifier = Annotated[str, "an id"]
"""An id: text for all who read it, though some servers send numbers."""

_MOST_FAULTS = 5


def structure(data: Any, kind: type[T], *, source: str, strict: bool = False) -> T:
    """
    Make a result object of decoded JSON.

    Keys are read in camelCase and snake_case alike, camelCase first. Unknown keys are kept in the
    object's ``raw``, and null is as if the key were not there. A field whose metadata have
    ``"names"`` is the first of these that is there; ``"a.b"`` is the ``b`` of the object ``a``.

    Nothing is coerced: a number is not text. A value that does not fit must not cost what stands
    beside it, such as a token that is shown only once: a field with a default keeps the default,
    and an item of a list or mapping is left out. Such a value is in ``raw`` only, and the log has
    its path.

    Args:
        data: The decoded JSON.
        kind: An attrs class, or a list or dict of them.
        source: What answered, for messages.
        strict: Every value has to fit.

    Returns:
        An instance of ``kind``.

    Raises:
        ProtocolError: The answer lacks a required field or has one of another type; the message
            has its path. Its ``outcome`` is ``"sent"``: the server did answer.
    """
    try:
        return _converter(lenient=False).structure(data, kind)
    except Exception as exc:  # noqa: BLE001 - cattrs raises groups of whatever a hook raised
        faults = _faults_of(exc)
    if not strict:
        try:
            found = _converter(lenient=True).structure(data, kind)
        except Exception as exc:  # noqa: BLE001 - as above; now only what is required
            faults = _faults_of(exc)
        else:
            logger.warning("%s: what does not fit is in raw only: %s", source, _in_words(faults))
            return found
    raise ProtocolError(
        f"{source} answered in an unexpected shape: {_in_words(faults)}",
        stage="parse",
        outcome="sent",
        remediation="The server's version may be newer than this library: see the body.",
        body=data,
    ) from None


def _faults_of(error: Exception) -> list[str]:
    faults = transform_error(error, path="$")
    _forget_frames(error)
    return faults


def _forget_frames(error: Exception) -> None:
    """Let go of the frames in which cattrs keeps what was raised: these circles hold the client."""
    error.__traceback__ = None
    for inner in getattr(error, "exceptions", ()):
        _forget_frames(inner)


@contextmanager
def _leaving_out() -> Iterator[None]:
    """Leave out what does not fit: structure() has told of it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - as there
        _forget_frames(error)


def _in_words(faults: list[str]) -> str:
    more = len(faults) - _MOST_FAULTS
    return "; ".join(faults[:_MOST_FAULTS]) + (f"; and {more} more" if more > 0 else "")


@cache
def _converter(*, lenient: bool) -> Converter:
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
    converter.register_structure_hook(ToolResult, lambda value, _: ToolResult(raw=value))
    converter.register_structure_hook_func(
        lambda kind: _origin(kind) is list,
        partial(_items_that_fit if lenient else _items, converter),
    )
    if lenient:
        converter.register_structure_hook_func(
            lambda kind: _origin(kind) is dict, partial(_entries_that_fit, converter)
        )
    converter.register_structure_hook_factory(
        attrs.has, partial(_object_hook, converter, lenient=lenient)
    )
    return converter


def _object_hook(
    converter: Converter, kind: type[Any], *, lenient: bool
) -> Callable[[Any, Any], Any]:
    attrs.resolve_types(kind)
    of_fields = {
        field.name: override(
            rename=field.metadata.get("wire"),
            struct_hook=_or_default(converter, field) if lenient and _may_be_odd(field) else None,
        )
        for field in attrs.fields(kind)
    }
    structure_dict = make_dict_structure_fn(kind, converter, **of_fields)  # type: ignore[arg-type]
    is_kept = lenient and getattr(kind, KEPT_AS_IT_CAME, False)
    has_raw = any(field.name == "raw" for field in attrs.fields(kind))
    aliases = {
        field.name: field.metadata["names"]
        for field in attrs.fields(kind)
        if "names" in field.metadata
    }

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
        return structure_dict(fields, target)

    return structure_object


def _may_be_odd(field: attrs.Attribute[Any]) -> bool:
    return field.default is not attrs.NOTHING and not field.metadata.get(MUST_FIT)


def _or_default(converter: Converter, field: attrs.Attribute[Any]) -> Callable[[Any, Any], Any]:
    default: Any = field.default

    def structure_field(value: Any, _: Any) -> Any:
        try:
            return converter.structure(value, field.type)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - structure() has told of it
            _forget_frames(error)
            return default.factory() if hasattr(default, "factory") else default

    return structure_field


def _origin(kind: Any) -> Any:
    return get_origin(kind)  # as Any: mypy takes it for a ParamSpec, which is not a class


def _items(converter: Converter, data: Any, kind: Any) -> list[Any]:
    if not isinstance(data, list | tuple):  # cattrs would walk through a text
        raise TypeError(f"expected a list, got {type(data).__name__}")
    several: Any = tuple[get_args(kind)[0], ...]  # type: ignore[misc]
    return list(converter.structure(data, several))


def _items_that_fit(converter: Converter, data: Any, kind: Any) -> list[Any]:
    if not isinstance(data, list | tuple):
        raise TypeError(f"expected a list, got {type(data).__name__}")
    found = []
    for item in data:
        with _leaving_out():
            found.append(converter.structure(item, get_args(kind)[0]))
    return found


def _entries_that_fit(converter: Converter, data: Any, kind: Any) -> dict[Any, Any]:
    found = {}
    for name, item in data.items():
        with _leaving_out():
            found[name] = converter.structure(item, get_args(kind)[1])
    return found


def _with_snake_case_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in data.items():
        name = snake_case(str(key))
        if value is not None and (name not in fields or name != key):
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
    is_whole = isinstance(value, float) and value.is_integer()  # JSON does not tell 1.0 from 1
    if isinstance(value, bool) or not (is_whole or isinstance(value, int)):
        raise TypeError(f"expected int, got {type(value).__name__}")
    return int(value)


def _number(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"expected a number, got {type(value).__name__}")
    return float(value)


def _amount(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError(f"expected an amount, got {type(value).__name__}")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("not an amount") from None
    if not amount.is_finite():
        raise ValueError("not an amount")
    return amount


def _identifier(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(f"expected an id, got {type(value).__name__}")
    return str(value)
