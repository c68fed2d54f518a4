"""Whoever comes from butt-dial-sdk finds every name."""

from __future__ import annotations

import json
import re
from functools import reduce
from pathlib import Path
from typing import Any, cast

import pytest

from buttdial_sync import AccountsClient, Client

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^``((?:Agent|AccountsClient)\.\w+)`` +``(client|accounts)\.([\w.]+)``", re.M)
CLIENTS = {"client": "Client", "accounts": "AccountsClient"}
MAKERS: dict[str, type[Client | AccountsClient]] = {
    "Client": Client,
    "AccountsClient": AccountsClient,
}


def rows() -> list[tuple[str, str]]:
    """Return the page's rows: the old name and ours, as the catalogue writes it."""
    page = (ROOT / "docs/migrating.rst").read_text("utf-8")
    return [(old, f"{CLIENTS[client]}.{name}") for old, client, name in ROW.findall(page)]


def test_every_name_has_its_row() -> None:
    """The page and the catalogue of operations tell the same, each thing once."""
    catalogue = json.loads((ROOT / "tests/data/operations.json").read_text("utf-8"))
    assert sorted(rows()) == sorted((each["butt_dial_sdk"], each["call"]) for each in catalogue)


@pytest.mark.parametrize("name", sorted({new for _, new in rows()}))
def test_our_names_exist(name: str) -> None:
    """What the page sends people to is there."""
    kind, *path = name.split(".")
    made: Client | AccountsClient = MAKERS[kind]("https://butt-dial.test")
    with made as client:
        assert callable(reduce(getattr, path, cast("Any", client)))
