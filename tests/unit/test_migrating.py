"""Whoever comes from butt-dial-sdk finds every name."""

from __future__ import annotations

import json
import re
from functools import reduce
from pathlib import Path
from typing import Any, cast

import pytest

import buttdial_sync
from buttdial_sync import AccountsClient, Client, InboundHandler
from buttdial_sync._renamed import RENAMED

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


@pytest.mark.parametrize(
    "name", sorted({old.partition(".")[2] for old, _ in rows() if old.startswith("Agent.")})
)
def test_an_old_method_names_the_new_one(name: str) -> None:
    """A call by the published name says what to write instead, where the name differs."""
    new_names = [new for old, new in rows() if old == f"Agent.{name}"]
    if new_names == [f"Client.{name}"]:
        return
    with Client("https://butt-dial.test") as client:
        wanted = ", ".join(new.replace("Client.", "client.") for new in sorted(new_names))
        with pytest.raises(AttributeError, match=re.escape(f"{name!r}: it is {wanted} here")):
            getattr(client, name)


@pytest.mark.parametrize("old", ["Agent", "RetryWorker", "make_router", "default_backoff"])
def test_an_old_import_names_the_new_one(old: str) -> None:
    """The same of the package's names; the names that it gives exist."""
    with pytest.raises(ImportError, match=f"has no attribute '{old}': it is "):
        exec(f"from buttdial_sync import {old}")  # noqa: S102 - the statement that people write
    with pytest.raises(ImportError, match=f"has no attribute '{old}': it is "):
        getattr(buttdial_sync, old)
    for names in RENAMED.values():
        for new in names.values():
            first = re.findall(r"\b([A-Z]\w+|client)\b", new)
            assert all(word == "client" or hasattr(buttdial_sync, word) for word in first), new


def test_foreign_names() -> None:
    """What other libraries call a send, and a part of the published handler."""
    with Client("https://butt-dial.test") as client:
        with pytest.raises(AttributeError, match=r'client\.send_message\(\.\.\., channel="sms"\)'):
            client.send_sms("+1", "Hello")  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match=r"no attribute 'sendmessage'$") as caught:
            client.sendmessage("+1")  # type: ignore[attr-defined]
        assert (caught.value.name, caught.value.obj) == ("sendmessage", client)
    with pytest.raises(AttributeError, match=r"it is InboundHandler\.asgi\(\) and wsgi\(\) here"):
        InboundHandler().router  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(InboundHandler(), "no_such_name")
