"""Arguments: checked before anything is sent, and as JSON."""

from __future__ import annotations

import inspect
import math
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from enum import Enum
from functools import cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError
from buttdial_sync.errors.scrubbing import is_secret, masked, masked_items
from buttdial_sync.models.names import camel_case

P = ParamSpec("P")
R = TypeVar("R")
Test = Callable[[Any], bool]
Check = Callable[[Any], None]

_ID_ENDINGS = ("_id", "_sid", "_token", "_key")


def checked(method: Callable[P, R]) -> Callable[P, R]:
    """
    Check a method's arguments against its own annotations before it runs.

    A wrong type raises :class:`ArgumentTypeError`. A value outside of a ``Literal``, a blank
    required text and a blank id or key raise :class:`ArgumentValueError`. Both name the parameter.
    """

    @wraps(method)
    def check_and_call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = _signature(method).bind(*args, **kwargs)
        except TypeError as error:
            # The class that the caller has made, which may inherit the method.
            name = f"{type(args[0]).__name__}.{method.__name__}" if args else method.__qualname__
            keywords = list(kwargs)
            del args, kwargs
            raise _misused(name, method, str(error), keywords) from None
        del args, kwargs  # frames are shown: from here on secrets are masked
        given = bound.arguments
        # No value gets a name of its own: a frame that is shown would have the secret in it.
        for name in given:
            if isinstance(given[name], Mapping):
                given[name] = masked_items(given[name])
        for name, (check, takes_text, is_masked) in _parameters(method).items():
            if name in given:
                if takes_text:
                    given[name] = plain_text(given[name])
                if is_masked:
                    given[name] = masked(given[name])
                check(given[name])
        return method(*bound.args, **bound.kwargs)

    return check_and_call


def check_argument(name: str, value: Any, hint: Any, *, required: bool) -> None:
    """
    Check one value against its type annotation.

    Raises:
        ArgumentTypeError: It has the wrong type.
        ArgumentValueError: It has an invalid value.
    """
    argument_checker(name, hint, required=required)(value)


def argument_checker(name: str, hint: Any, *, required: bool) -> Check:
    """Return the function that checks the values of one parameter, as :func:`check_argument`."""
    has_type, allowed = _test(hint), _literal_values(hint)
    must_not_be_blank = required or name.endswith(_ID_ENDINGS)

    def check(value: Any) -> None:
        if not has_type(value):
            raise ArgumentTypeError(f"{name} must be {_in_words(hint)}, not {_kind_of(value)}")
        if value is None:
            return
        if allowed and value not in allowed:
            near = get_close_matches(str(value).strip().casefold(), map(str, allowed))
            raise ArgumentValueError(
                f"{name} must be one of {', '.join(map(repr, allowed))}",
                remediation=f"Did you mean {near[0]!r}?" if near else "Give one of them.",
            )
        if must_not_be_blank and isinstance(value, str) and not value.strip():
            raise ArgumentValueError(f"{name} must not be empty")

    return check


def plain_text(value: Any) -> Any:
    """
    Return the text of what frameworks use in place of one; anything else as it is.

    That is an enum's value, a ``Decimal``, and a lazy translation of Django.
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return str(value)
    django = sys.modules.get("django.utils.functional")  # without it nobody has lazy texts
    return str(value) if django is not None and isinstance(value, django.Promise) else value


def to_wire(
    arguments: Mapping[str, Any], key_of: Callable[[str], str] = camel_case
) -> dict[str, Any]:
    """
    Return arguments by their names on the wire, without those that are None.

    Args:
        arguments: By their names in Python.
        key_of: Converts a name.

    Raises:
        ArgumentTypeError: JSON cannot hold a value; the message has the argument's name.
        ArgumentValueError: The same of a number that is not finite.
    """
    return {
        key_of(name): json_value(value, name)
        for name, value in arguments.items()
        if value is not None
    }


def json_value(value: Any, name: str) -> Any:
    """
    Return a value as plain JSON types, its texts with line feeds only.

    One of the servers rejects carriage returns.

    Raises:
        ArgumentTypeError: JSON cannot hold it; the message has the argument's name.
        ArgumentValueError: It is a number that is not finite, or it contains itself.
    """
    try:
        return _json_value(value, name)
    except RecursionError:
        raise ArgumentValueError(f"{name} contains itself, or is nested too deeply") from None


def _json_value(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return value.replace("\r\n", "\n").replace("\r", "\n") if "\r" in value else value
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            raise ArgumentValueError(f"{name} must be a finite number")
        return float(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ArgumentTypeError(f"{name} must have keys that are text")
        return {key: _json_value(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_json_value(item, f"{name}[{number}]") for number, item in enumerate(value)]
    raise ArgumentTypeError(f"{name} must be plain JSON, not {type(value).__name__}")


def _misused(
    name: str, method: Callable[..., Any], complaint: str, given: Iterable[str]
) -> TypeError:
    """Return Python's complaint about a call, with the method's name and the nearest keywords."""
    known = _signature(method).parameters
    meant = {each: get_close_matches(each, known) for each in given if each not in known}
    hints = [f"; write {near[0]}= for {each}=" for each, near in meant.items() if near]
    return TypeError(f"{name}(): {complaint}{''.join(hints)}")


@cache
def _signature(method: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(method)


@cache
def _parameters(method: Callable[..., Any]) -> dict[str, tuple[Check, bool, bool]]:
    """Return the check of each parameter, and whether it takes a text, or a secret."""
    hints = get_type_hints(method)
    return {
        name: (
            argument_checker(name, hints[name], required=parameter.default is parameter.empty),
            _takes_text(hints[name]),
            is_secret(name) or name == "code",  # a passcode
        )
        for name, parameter in _signature(method).parameters.items()
        if name in hints and parameter.kind is not parameter.VAR_KEYWORD
    }


@cache
def _literal_values(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(value for option in _options(hint) for value in _literal_values(option))


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in {Union, types.UnionType} else ()


@cache
def _test(hint: Any) -> Test:
    """Return the test whether a value has the type that an annotation says."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda _: True
    if options := _options(hint):
        tests = [_test(option) for option in options]
        return lambda value: any(test(value) for test in tests)
    if origin is Literal:
        kinds = {type(option) for option in inner}
        return lambda value: type(value) in kinds
    if origin is Callable:
        return callable
    if origin is not None and issubclass(origin, Mapping):
        return _mapping_test(_test(inner[0]), _test(inner[1]))
    if origin is not None and issubclass(origin, Sequence):
        return _sequence_test(_test(inner[0]))
    if hint in {int, float}:
        numbers = (int,) if hint is int else (int, float)
        return lambda value: isinstance(value, numbers) and not isinstance(value, bool)
    return lambda value: isinstance(value, hint)


def _mapping_test(key_test: Test, item_test: Test) -> Test:
    return lambda value: (
        isinstance(value, Mapping)
        and all(key_test(key) and item_test(item) for key, item in value.items())
    )


def _sequence_test(item_test: Test) -> Test:
    return lambda value: (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and all(map(item_test, value))
    )


def _takes_text(hint: Any) -> bool:
    return str in (hint, *_options(hint)) or bool(_literal_values(hint))


def _kind_of(value: Any) -> str:
    """Return a value's type in words, with the types of what it contains."""
    kind = type(value).__name__
    if isinstance(value, Mapping) and value:
        return f"{kind} of {_kinds_in(value)} to {_kinds_in(value.values())}"
    if isinstance(value, list | tuple | set | frozenset) and value:
        return f"{kind} of {_kinds_in(value)}"
    return kind


def _kinds_in(items: Iterable[Any]) -> str:
    return " or ".join(sorted({type(item).__name__ for item in items}))


def _in_words(hint: Any) -> str:
    if values := _literal_values(hint):
        return " or ".join(map(repr, values))
    if options := _options(hint):
        return " or ".join(_in_words(option) for option in options)
    origin = get_origin(hint)
    if origin in {Mapping, Sequence}:
        return f"{origin.__name__}[{', '.join(map(_in_words, get_args(hint)))}]"
    return "None" if hint is type(None) else getattr(hint, "__name__", str(hint))
