"""Agents whose messages wait because a person wants it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from buttdial_sync import ArgumentTypeError
from buttdial_sync.retry import MemoryRepository
from buttdial_sync.retry.pauses import Pause, Pauses, is_paused, pauses_schema
from buttdial_sync.stores.memory import MemoryStore

START = datetime(2026, 1, 2, tzinfo=timezone.utc)


class Bench:
    """Pauses and their clock."""

    def __init__(self) -> None:
        self.now = START
        self.store = MemoryStore(pauses_schema("outbox"), lambda: self.now)
        self.pauses = Pauses(self.store)


@pytest.fixture
def here() -> Bench:
    return Bench()


@pytest.mark.parametrize("agent_id", ["a", "", None, "all", "x" * 1000])
def test_a_pause(here: Bench, agent_id: str | None) -> None:
    """It begins once and ends once, and may begin again."""
    pauses = here.pauses
    assert pauses.end(agent_id) is False
    assert pauses.begin(agent_id, "why") is True
    assert pauses.begin(agent_id, "other") is False
    (pause,) = pauses.all()
    assert (pause.since, pause.reason) == (START, "why")
    assert pause.agent_id == agent_id or len(str(agent_id)) == 1000  # too long for a key
    here.now += timedelta(hours=1)
    assert pauses.end(agent_id) is True
    assert pauses.end(agent_id) is False
    assert pauses.all() == ()
    (row,) = here.store._rows.values()
    assert row["resolved_at"] == here.now
    here.now += timedelta(hours=1)
    assert pauses.begin(agent_id, "again") is True
    (pause,) = pauses.all()
    assert (pause.since, pause.reason) == (here.now, "again")
    (row,) = here.store._rows.values()
    assert row["resolved_at"] is None


def test_several_pauses(here: Bench) -> None:
    """The newest first; one of all is another one than those of agents."""
    for agent_id in ("a", None, ""):
        assert here.pauses.begin(agent_id, "")
        here.now += timedelta(seconds=1)
    since = [START + timedelta(seconds=number) for number in range(3)]
    assert here.pauses.all() == (
        Pause(agent_id="", since=since[2]),
        Pause(agent_id=None, since=since[1]),
        Pause(agent_id="a", since=since[0]),
    )
    assert here.pauses.end(None)
    assert [pause.agent_id for pause in here.pauses.all()] == ["", "a"]


def test_so_many_pauses_are_told(here: Bench) -> None:
    """Ten thousand: a list that has no end would be read by nobody."""
    values = {"status": "paused", "created_at": START, "resolved_at": None, "reason": None}
    here.store.insert_new([{"id": f"agent:{number}", **values} for number in range(10_001)])
    told = here.pauses.all()
    assert (len(told), told[0].reason) == (10_000, "")


def test_a_reason_that_no_row_holds(here: Bench) -> None:
    """It is cut, and without what databases refuse."""
    here.pauses.begin("a", "no\0" + "x" * 100_000)
    (pause,) = here.pauses.all()
    assert pause.reason.startswith("no\ufffdxxx")
    assert len(pause.reason) < 100_000


@pytest.mark.parametrize("agent_id", [7, b"a", ["a"]])
def test_an_agent_is_text(here: Bench, agent_id: Any) -> None:
    """Anything else would be the pause of nobody."""
    with pytest.raises(ArgumentTypeError, match="agent_id must be a text"):
        here.pauses.begin(agent_id, "")
    with pytest.raises(ArgumentTypeError, match="agent_id must be a text"):
        here.pauses.end(agent_id)


def test_the_table() -> None:
    """Its name is that of the outbox; what every row has is required."""
    schema = pauses_schema("outbox")
    assert schema.table == "outbox_pauses"
    assert [column.name for column in schema.columns] == [
        "id", "status", "created_at", "resolved_at", "reason",
    ]  # fmt: skip
    required = [column.name for column in schema.columns if column.required]
    assert required == ["id", "status", "created_at"]


def test_whose_messages_wait() -> None:
    """Of those that name no agent by a pause of their own; of a host's own repository nobody's."""
    repository = MemoryRepository()
    assert not is_paused(repository, None)
    repository.pause("a")
    assert is_paused(repository, "a")
    assert not is_paused(repository, None)
    repository.pause("")
    assert is_paused(repository, None)
    assert not is_paused(repository, "b")
    assert not is_paused(object(), "a")
