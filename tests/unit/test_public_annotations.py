"""Whoever writes annotations finds the types of our signatures where the names are public."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import buttdial_sync

ROOT = Path(__file__).parents[2]
ROOMS = ("", ".ailoop", ".doctor", ".happy", ".procedura", ".retry", ".testing")
# What only our own code hands to a constructor or keeps, protocols that a host's object fits, and
# what a test only looks at.
INTERNAL = {
    "buttdial_sync.ailoop.answers.Prompt",
    "buttdial_sync.stores.sqlalchemy.Executes",
    "buttdial_sync.stores.sqlalchemy.SQLAlchemyStore",
    "buttdial_sync.stores.sqlite.SQLiteStore",
    "buttdial_sync.stores.store.Store",
    "buttdial_sync.ailoop.connection.AiloopConnection",
    "buttdial_sync.ailoop.listening.Inbox",
    "buttdial_sync.calls.endpoint_call.RequestSigner",
    "buttdial_sync.calls.tool_call.AgentContext",
    "buttdial_sync.connection.Connection",
    "buttdial_sync.testing.fake.FakeServer",
    "buttdial_sync.testing.happy_agents.AgentProcess",
    "buttdial_sync.testing.http_messages.BrokenConnection",
    "buttdial_sync.testing.http_messages.HttpResponse",
    "buttdial_sync.testing.http_messages.RawResponse",
    "buttdial_sync.testing.http_messages.StreamResponse",
    "buttdial_sync.testing.workspace.Workspace",
}


@cache
def public() -> dict[str, Any]:
    """Return each public name of the rooms, and what it is."""
    found = {}
    for room in ROOMS:
        module = import_module(f"buttdial_sync{room}")
        for name in dir(module):
            if not name.startswith("_"):
                found[f"buttdial_sync{room}.{name}"] = getattr(module, name)
    return found


@cache
def documented() -> set[str]:
    """Return what the pages describe: classes, and the modules of which they describe all."""
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs").rglob("*.rst"))
    return set(re.findall(r"auto(?:class|module|data|function):: ([\w.]+)", pages))


@cache
def names_in(module: str) -> dict[str, Any]:
    """Return what annotations in a module may mean: also what is imported for type checkers."""
    names = dict(vars(sys.modules[module]))
    tree = ast.parse(Path(str(sys.modules[module].__file__)).read_text("utf-8"))
    for block in tree.body:
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test):
            for node in block.body:
                if isinstance(node, ast.ImportFrom):
                    home = import_module(str(node.module))
                    names |= {
                        each.asname or each.name: getattr(home, each.name) for each in node.names
                    }
    return names


def functions_of(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        member = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
        is_ours = str(getattr(member, "__module__", "")).startswith("buttdial_sync")
        is_public = name == "__init__" or not name.startswith("_")
        if inspect.isfunction(member) and is_ours and is_public:
            yield name, inspect.unwrap(member)


def public_annotations() -> Iterator[tuple[str, Any]]:
    """Give each annotation of the public functions, methods and attributes, with its place."""
    for name, value in public().items():
        if inspect.isfunction(value):
            members: list[tuple[str, Any]] = [("", value)]
        elif inspect.isclass(value) and value.__module__.startswith("buttdial_sync"):
            members = [*functions_of(value), ("", value)]
        else:
            continue
        for member, owner in members:
            own = names_in(owner.__module__)
            for label, hint in inspect.get_annotations(owner).items():
                if not label.startswith("_"):
                    # itertools.count is generic for type checkers only.
                    text = str(hint).replace("count[int]", "count")
                    resolved = eval(text, {**own}) if isinstance(hint, str) else hint  # noqa: S307
                    yield f"{name}.{member}({label})", resolved


def parts_of(hint: Any) -> Iterator[Any]:
    yield hint
    for part in typing.get_args(hint):
        for each in part if isinstance(part, list) else [part]:
            yield from parts_of(each)


def test_every_type_of_a_signature_is_public() -> None:
    """In the package, in a room that has public names, or described in the documentation."""
    known = {id(value) for value in public().values()}
    missing: dict[str, str] = {}
    count = 0
    for place, hint in public_annotations():
        for part in parts_of(hint):
            count += 1
            if not inspect.isclass(part) or not part.__module__.startswith("buttdial_sync"):
                continue
            name = f"{part.__module__}.{part.__qualname__}"
            is_described = name in documented() or part.__module__ in documented()
            if not (id(part) in known or is_described or name in INTERNAL):
                missing.setdefault(name, place)
    assert count > 1000
    assert missing == {}


def test_no_signature_has_a_type_that_looks_like_another() -> None:
    """A ``NewType`` of ours would not fit into a variable that is a ``str``."""
    places = [place for place, hint in public_annotations() for part in parts_of(hint)
              if isinstance(part, typing.NewType)]  # fmt: skip
    assert places == []
    assert typing.get_type_hints(buttdial_sync.PhoneCall)["call_sid"] == str | None
