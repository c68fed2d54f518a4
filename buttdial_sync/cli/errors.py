"""The exceptions, read from their classes: ``errors``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

import click

from buttdial_sync import errors as tree
from buttdial_sync.cli.command import ReportingCommand
from buttdial_sync.cli.report import Report
from buttdial_sync.errors import ButtDialError
from buttdial_sync.errors.texts import MEANING_OF_CODE
from buttdial_sync.procedura import errors as procedura

_INDENT = "  "
_OF_CONNECTIONS = ("REFUSED", "DNS", "TLS", "PROXY", "EMFILE")

Kind = type[ButtDialError]


@click.command(cls=ReportingCommand)
@click.argument("name", required=False)
def errors(name: str | None) -> Report:
    """
    List the exceptions, or explain one.

    NAME is a class, as in RateLimitError, or a code, as in AUTH_INVALID_TOKEN.
    """
    if name is None:
        return Report(
            data={"errors": [_as_data(kind) for kind in _all()]},
            lines=list(_tree(ButtDialError)),
        )
    kind = _find(name)
    data = _as_data(kind)
    remedy = _remedy_of_code(name.upper())
    if remedy is not None:
        data["remediation"] = remedy
    return Report(data=data, lines=list(_details(kind, data)))


def _remedy_of_code(code: str) -> str | None:
    if code in _OF_CONNECTIONS:
        from buttdial_sync.transport.failures import REMEDIES

        return REMEDIES[code]
    meaning = MEANING_OF_CODE.get(code)
    return None if meaning is None else meaning.remedy


def _exported() -> dict[str, Kind]:
    """Return the classes by their public names; a class may have two."""
    exported = {name: getattr(tree, name) for name in tree.__all__}
    exported.update(vars(procedura))
    return {
        name: each
        for name, each in exported.items()
        if isinstance(each, type) and issubclass(each, ButtDialError)
    }


def _all() -> list[Kind]:
    return sorted(set(_exported().values()), key=lambda kind: kind.__name__)


def _find(name: str) -> Kind:
    codes = {code: kind for kind in _all() for code in _codes(kind)}
    codes.update(dict.fromkeys(_OF_CONNECTIONS, tree.TransportError))
    named = {**codes, **{code: each.kind for code, each in MEANING_OF_CODE.items()}, **_exported()}
    names = {known.casefold(): kind for known, kind in named.items()}
    kind = names.get(name.casefold())
    if kind is None:
        found = get_close_matches(name.casefold(), names, n=3)
        near = dict.fromkeys(names[each].__name__ for each in found)
        hint = f" Did you mean {' or '.join(near)}?"
        raise click.UsageError(f"No exception or code is called {name!r}.{hint if near else ''}")
    return kind


def _tree(kind: Kind, depth: int = 0) -> Iterator[str]:
    yield f"{_INDENT * depth}{kind.__name__}: {_summary(kind)}"
    for child in _all():
        # A class with two parents is listed below the first.
        if child.__bases__[0] is kind:
            yield from _tree(child, depth + 1)


def _codes(kind: Kind) -> list[str]:
    own = (vars(kind).get("default_code"), *vars(kind).get("server_codes", ()))
    return [code for code in own if code]


def _details(kind: Kind, data: dict[str, Any]) -> Iterator[str]:
    yield f"{kind.__name__} ({', '.join(data['bases'])})"
    yield ""
    yield from inspect.cleandoc(kind.__doc__ or "").splitlines()
    yield ""
    shown = {
        "codes": ", ".join(data["codes"]),
        "stage": data["stage"],
        "outcome": data["outcome"],
        "advice": data["remediation"],
        "below it": ", ".join(child.__name__ for child in _all() if kind in child.__bases__),
    }
    for label, text in shown.items():
        if text:
            yield f"{label + ':':<10}{text}"


def _as_data(kind: Kind) -> dict[str, Any]:
    return {
        "name": kind.__name__,
        "summary": _summary(kind),
        "bases": [base.__name__ for base in kind.__bases__],
        "codes": _codes(kind),
        "stage": kind.default_stage,
        "outcome": kind.default_outcome,
        "remediation": kind.remedy,
    }


def _summary(kind: Kind) -> str:
    return next(iter(inspect.cleandoc(kind.__doc__ or "").splitlines()), "")
