"""What is to be known about an endpoint, and what becomes of a call's arguments there."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

import attrs

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError
from buttdial_sync.models.names import camel_case

Auth = Literal["team token", "given", "none"]


@attrs.frozen(kw_only=True)
class Variant:
    """How one kind of server names an endpoint and some of its body's keys."""

    path: str
    names: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Endpoint:
    """
    One operation on the wire.

    Attributes:
        method: The HTTP method.
        path: The path, with ``{name}`` where an argument goes.
        auth: Whose credential goes with it: the ``"team token"`` (unless the call gives another),
            one ``"given"`` by the call, or ``"none"``.
        reads_only: It changes nothing, so an unknown outcome is repeated.
        query: The arguments that go into the URL under their own names. They are secrets.
        takes_key: It honours an ``Idempotency-Key``.
        is_signed: It wants a timestamp and a fresh nonce with each request.
        spell: Makes the body's keys of the arguments' names.
        names: Names that ``spell`` does not find.
        open_source_path: The path on the open-source server, where it is another.
        open_source_names: Keys of the body that the open-source server calls otherwise.
    """

    method: str
    path: str
    auth: Auth = attrs.field(default="team token", kw_only=True)
    reads_only: bool = attrs.field(default=False, kw_only=True)
    query: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    takes_key: bool = attrs.field(default=False, kw_only=True)
    is_signed: bool = attrs.field(default=False, kw_only=True)
    spell: Callable[[str], str] = attrs.field(default=camel_case, kw_only=True)
    names: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    open_source_path: str | None = attrs.field(default=None, kw_only=True)
    open_source_names: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)

    @property
    def operation(self) -> str:
        """Its name in logs and events."""
        return f"{self.method} {self.path}"

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The ways to write it, the hosted server's first."""
        hosted = Variant(path=self.path)
        if not (self.open_source_path or self.open_source_names):
            return (hosted,)
        other = Variant(path=self.open_source_path or self.path, names=self.open_source_names)
        return hosted, other

    def body(
        self, arguments: Mapping[str, Any], extra: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """Return what goes into the body: the arguments that go nowhere else."""
        elsewhere = {*self.query, *re.findall(r"{(\w+)}", self.path)}
        found = {
            self.names.get(name) or self.spell(name): as_json(value, name)
            for name, value in arguments.items()
            if name not in elsewhere
        }
        found.update({name: as_json(value, name) for name, value in (extra or {}).items()})
        return found if found or self.method in {"POST", "PATCH"} else None


def fill_path(template: str, arguments: Mapping[str, Any]) -> str:
    """
    Put arguments into a path, each one quoted as a single part of it.

    Raises:
        ArgumentValueError: One is ``.`` or ``..``, which no URL can hold: it would name another
            endpoint.
    """
    for name in re.findall(r"{(\w+)}", template):
        if arguments[name] in {".", ".."}:
            raise ArgumentValueError(f"{name} must not be {arguments[name]!r}")
    return re.sub(r"{(\w+)}", lambda found: quote(arguments[found[1]], safe=""), template)


def as_json(value: Any, name: str) -> Any:
    """
    Return a value as plain JSON types.

    Raises:
        ArgumentTypeError: JSON cannot hold it; the message has the argument's name.
        ArgumentValueError: It is a number that JSON cannot hold.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise ArgumentValueError(f"{name} must be a finite number")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ArgumentTypeError(f"{name} must have keys that are text")
        return {key: as_json(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [as_json(item, f"{name}[{number}]") for number, item in enumerate(value)]
    raise ArgumentTypeError(f"{name} must be plain JSON, not {type(value).__name__}")
