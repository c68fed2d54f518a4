"""What all families have in common, so that nobody has to look at each of them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, get_type_hints

import attrs
import pytest

import buttdial_sync
import buttdial_sync.models
import buttdial_sync.tools
from buttdial_sync import Client
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.family import Family
from tests.contract.catalogue import docstring, operations


def modules_of(package: Any) -> Iterator[Any]:
    for module in iter_modules(package.__path__):
        yield import_module(f"{package.__name__}.{module.name}")


def families(client: Client) -> dict[str, Family]:
    public = (name for name in dir(client) if not name.startswith("_"))
    found = ((name, getattr(client, name)) for name in public)
    return {name: value for name, value in found if isinstance(value, Family)}


def public_methods(kind: type[object]) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, value in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            yield f"{kind.__name__}.{name}", value


def kinds_of_families() -> set[type[Family]]:
    """Return the families, and not what they are made of."""
    return {
        kind
        for module in modules_of(buttdial_sync.tools)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Family) and not kind.__subclasses__()
    }


def all_methods() -> list[tuple[str, Callable[..., Any]]]:
    return sorted(
        (method for kind in kinds_of_families() for method in public_methods(kind)),
        key=lambda method: method[0],
    )


METHODS = [pytest.param(method, id=name) for name, method in all_methods()]


def test_every_family_is_attached() -> None:
    """Each family is an attribute of the client, and documented there."""
    with Client("https://butt-dial.test", agent_token="t") as client:
        attached = families(client)
    assert kinds_of_families() == {type(family) for family in attached.values()}
    for name in attached:
        assert inspect.getdoc(inspect.getattr_static(Client, name))


def test_every_operation_and_no_other() -> None:
    """The families' public methods are the catalogue's operations."""
    with Client("https://butt-dial.test", agent_token="t") as client:
        found = {
            f"{family}.{method.__name__}"
            for family, value in families(client).items()
            for _, method in public_methods(type(value))
        }
    assert found == {each.name for each in operations("Client")} - {"send_message"}


@pytest.mark.parametrize("method", METHODS)
def test_documented(method: Callable[..., Any]) -> None:
    """A method says what it takes, returns and raises, its scope, and whether twice is safe."""
    text = docstring(method)
    for part in ("Returns:", "Raises:", "Scope: ", "Calling it twice"):
        assert part in text, f"{part} is missing"
    for name in inspect.signature(method).parameters:
        if name not in {"self"}:
            assert f"{name}:" in text, f"{name} is missing"


@pytest.mark.parametrize("method", METHODS)
def test_raises_what_exists(method: Callable[..., Any]) -> None:
    """The errors that a method names are public."""
    raises = (inspect.getdoc(method) or "").partition("Raises:\n")[2]
    lines = [line for line in raises.splitlines() if line[:4] == "    " and line[4:5] != " "]
    assert lines
    for line in lines:
        assert line.strip().partition(":")[0] in dir(buttdial_sync)


@pytest.mark.parametrize("method", METHODS)
def test_short(method: Callable[..., Any]) -> None:
    """A method is a docstring and at most two statements."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(method))).body
    assert isinstance(function, ast.FunctionDef)
    assert len(function.body) <= 3


@pytest.mark.parametrize("method", METHODS)
def test_exported(method: Callable[..., Any]) -> None:
    """What a method returns is public."""
    kind = get_type_hints(method)["return"]
    assert getattr(buttdial_sync, kind.__name__) is kind


def results() -> list[type[Any]]:
    kinds = {get_type_hints(param.values[0])["return"] for param in METHODS}
    return sorted(kinds - {ToolResult}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", results())
def test_result_class(kind: type[Any]) -> None:
    """A result is frozen, has ``raw`` last and hidden, documents its fields and hides secrets."""
    fields = attrs.fields(kind)
    assert fields[-1].name == "raw"
    assert not fields[-1].repr
    assert fields[-1].eq is False
    assert all(field.kw_only for field in fields)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        kind(**({"valid": True} if kind.__name__ == "OtpVerification" else {})).raw = 1
    for field in fields[:-1]:
        assert field.name in docstring(kind)
        assert "token" not in field.name or not field.repr
