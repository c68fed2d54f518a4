"""Checking what callers give, before anything is sent."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError

P = ParamSpec("P")
R = TypeVar("R")

_ID_ENDINGS = ("_id", "_sid", "_token")


def checked(method: Callable[P, R]) -> Callable[P, R]:
    """
    Check a method's arguments against its own annotations before it runs.

    A wrong type raises :class:`ArgumentTypeError`. A value outside of a ``Literal``, a blank
    required text and a blank id raise :class:`ArgumentValueError`. Both name the parameter.
    """

    @wraps(method)
    def check_and_call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = _signature(method).bind(*args, **kwargs).arguments
        for name, (hint, required) in _parameters(method).items():
            if name in given:
                check_argument(name, given[name], hint, required=required)
        return method(*args, **kwargs)

    return check_and_call


def check_argument(name: str, value: Any, hint: Any, *, required: bool) -> None:
    """
    Check one value against its type annotation.

    Raises:
        ArgumentTypeError: It has the wrong type.
        ArgumentValueError: It is a value that it cannot have.
    """
    values = _literal_values(hint)
    if not _fits(value, hint):
        raise ArgumentTypeError(f"{name} must be {_in_words(hint)}, not {type(value).__name__}")
    if values and value is not None and value not in values:
        raise ArgumentValueError(f"{name} must be one of {', '.join(map(repr, values))}")
    must_not_be_blank = required or name.endswith(_ID_ENDINGS)
    if must_not_be_blank and isinstance(value, str) and not value.strip():
        raise ArgumentValueError(f"{name} must not be empty")


@cache
def _signature(method: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(method)


@cache
def _parameters(method: Callable[..., Any]) -> dict[str, tuple[Any, bool]]:
    hints = get_type_hints(method)
    return {
        name: (hints[name], parameter.default is parameter.empty)
        for name, parameter in _signature(method).parameters.items()
        if name in hints and parameter.kind is not parameter.VAR_KEYWORD
    }


def _literal_values(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(value for option in _options(hint) for value in _literal_values(option))


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in {Union, types.UnionType} else ()


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if options := _options(hint):
        return any(_fits(value, option) for option in options)
    if origin is Literal:
        return type(value) in {type(option) for option in inner}
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(item, inner[1]) for key, item in value.items()
        )
    if origin is not None and issubclass(origin, Sequence):
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return is_list and all(_fits(item, inner[0]) for item in value)
    if hint in {int, float}:
        return (
            isinstance(value, int if hint is int else (int, float))
            and value is not True
            and (value is not False)
        )
    return callable(value) if origin is Callable else isinstance(value, origin or hint)


def _in_words(hint: Any) -> str:
    if values := _literal_values(hint):
        return " or ".join(map(repr, values))
    if options := _options(hint):
        return " or ".join(_in_words(option) for option in options)
    return "None" if hint is type(None) else getattr(hint, "__name__", str(hint))
