"""The tables of the pages about families and accounts say what the catalogue says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(
    r"^:meth:`~\w+\.(\w+)` +(agent|org admin|super-admin) +(both|hosted) +(yes|no)\b", re.MULTILINE
)
ACCOUNTS_ROW = re.compile(
    r"^:meth:`~AccountsClient\.(\w+)` +(workspace|none) +(both|hosted) +(yes|no)\b", re.MULTILINE
)
SCOPES = {"agent": "agent", "org-admin": "org admin", "super-admin": "super-admin"}


def families() -> dict[str, dict[str, Any]]:
    """Return the catalogue's operations, by family and method."""
    found: dict[str, dict[str, Any]] = {}
    for each in json.loads((ROOT / "tests/data/operations.json").read_text("utf-8")):
        client, *names = each["call"].split(".")
        if client == "Client" and len(names) == 2:
            found.setdefault(names[0], {})[names[1]] = each
    return found


@pytest.mark.parametrize("family", families())
def test_the_table_is_right(family: str) -> None:
    """Each call stands in its family's table, with its scope and its servers."""
    page = (ROOT / "docs/families" / f"{family}.rst").read_text("utf-8")
    told = {name: (scope, server) for name, scope, server, _ in ROW.findall(page)}
    assert told == {
        name: (SCOPES[each["scope"]], "both" if each["on_open_source_server"] else "hosted")
        for name, each in families()[family].items()
    }


@pytest.mark.parametrize("family", families())
def test_what_only_reads_is_safe(family: str) -> None:
    """No page calls an operation unsafe that changes nothing."""
    page = (ROOT / "docs/families" / f"{family}.rst").read_text("utf-8")
    unsafe = {name for name, _, _, safe in ROW.findall(page) if safe == "no"}
    assert not {name for name in unsafe if families()[family][name]["reads_only"]}


def test_every_family_has_a_page() -> None:
    """There is one for each, and the index lists it."""
    index = (ROOT / "docs/families/index.rst").read_text("utf-8")
    assert all(re.search(rf"^   {family}$", index, re.MULTILINE) for family in families())


def test_the_tables_of_accounts_are_right() -> None:
    """Each call of the accounts client stands in one of its page's tables."""
    page = (ROOT / "docs/accounts.rst").read_text("utf-8")
    told = {name: (scope, server) for name, scope, server, _ in ACCOUNTS_ROW.findall(page)}
    catalogue = json.loads((ROOT / "tests/data/operations.json").read_text("utf-8"))
    assert told == {
        each["call"].partition(".")[2]: (
            each["scope"],
            "both" if each["on_open_source_server"] else "hosted",
        )
        for each in catalogue
        if each["call"].startswith("AccountsClient.")
    }
