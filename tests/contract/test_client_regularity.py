"""What all families have in common, so that nobody has to look at each of them."""

from __future__ import annotations

import ast
import inspect
import re
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
from tests.contract.catalogue import Operation, docstring, operations


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


def sections(documented: object) -> list[str]:
    """Return the lines of the sections, such as ``Returns``, but not their titles."""
    text = inspect.getdoc(documented) or ""
    found = re.findall(r"^(?:Returns|Raises):\n((?:    .*\n?)+)", text, re.MULTILINE)
    return [line.strip() for block in found for line in block.splitlines()]


def raised(documented: object) -> set[str]:
    """Return the errors that a docstring names."""
    raises = (inspect.getdoc(documented) or "").partition("Raises:\n")[2].partition("\n\n")[0]
    return set(re.findall(r"^    (\w+):", raises, re.MULTILINE))


FAMILIES = sorted(kinds_of_families(), key=lambda kind: kind.__name__)
METHODS = [pytest.param(method, id=name) for name, method in all_methods()]
TOOL_CALLS = [
    pytest.param(each, id=each.name) for each in operations("Client") if each.name != "send_message"
]


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


@pytest.mark.parametrize("kind", FAMILIES)
def test_family_documented(kind: type[Family]) -> None:
    """A family says for all its methods what they return and raise, and their scope."""
    text = docstring(kind)
    for part in ("Scope: ", "Returns:", "Raises:", "Safe to share between threads"):
        assert part in text, f"{part} is missing"
    assert raised(kind) > {"NotSupportedError", "OutcomeUnknownError"}


@pytest.mark.parametrize("operation", TOOL_CALLS)
def test_documented(operation: Operation) -> None:
    """
    A method says in a line what it does, what it takes, and what a second call does.

    A call that only reads does nothing twice. What is said for the whole family is not repeated.
    """
    family, _, name = operation.name.partition(".")
    kind = next(kind for kind in FAMILIES if kind.__name__.lower() == family)
    method = getattr(kind, name)
    text = inspect.getdoc(method) or ""
    assert text.partition("\n")[2][:1] in {"", "\n"}, "the summary is longer than a line"
    assert ("Calling it twice" in docstring(method)) != operation.facts["reads_only"]
    for parameter in set(inspect.signature(method).parameters) - {"self"}:
        assert f"{parameter}:" in text, f"{parameter} is missing"
    assert not set(sections(method)) & set(sections(kind))
    assert ("Scope: " in text) == (operation.facts["scope"] == "super-admin")


@pytest.mark.parametrize("documented", [*METHODS, *FAMILIES])
def test_raises_what_exists(documented: Callable[..., Any]) -> None:
    """The errors that are named are public."""
    assert raised(documented) <= set(dir(buttdial_sync))


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
    """A result is frozen, has a hidden ``raw``, documents its fields and hides secrets."""
    fields = attrs.fields(kind)
    assert not fields.raw.repr
    assert fields.raw.eq is False
    assert all(field.kw_only for field in fields)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        kind(**({"valid": True} if kind.__name__ == "OtpVerification" else {})).raw = 1
    for field in fields:
        assert field.name == "raw" or field.name in docstring(kind)
        assert "token" not in field.name or not field.repr
