"""What a table of work has, in every store."""

from __future__ import annotations

from datetime import datetime, timezone

from buttdial_sync.stores.schema import (
    KEY_LENGTH,
    WORD_LENGTH,
    WORK_COLUMNS,
    Claim,
    Column,
    Schema,
    TableIndex,
    id_taken,
    missing_columns,
)

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def test_columns_of_work() -> None:
    """What older processes write is required; what came later is not, or they could not write."""
    assert [column.name for column in WORK_COLUMNS if column.required] == [
        "id", "status", "created_at", "retry_count", "next_retry_at",
    ]  # fmt: skip
    assert (KEY_LENGTH, WORD_LENGTH) == (255, 16)  # tables of hosts have them
    schema = Schema(table="t", columns=WORK_COLUMNS)
    assert schema.names == tuple(column.name for column in WORK_COLUMNS)
    assert schema.times == ("created_at", "resolved_at", "next_retry_at", "leased_until")


def test_columns_that_a_table_lacks() -> None:
    """As one of an earlier release does."""
    one, other = Column("one"), Column("other")
    schema = Schema(table="t", columns=(one, other))
    assert missing_columns(schema, {"one", "of the host"}) == (other,)
    assert missing_columns(schema, {"one", "other"}) == ()


def test_what_is_usual() -> None:
    """A column may be empty, an index holds a value often, and a claim begins no attempt."""
    assert not Column("name").required
    assert not TableIndex(("name",)).unique
    assert not Schema(table="t", columns=()).takes_turns
    claim = Claim(now=NOW, leased_until=NOW, limit=3)
    assert (claim.begins_attempt, claim.turns, claim.share, claim.at_most) == (False, (), 0, {})


def test_an_id_that_is_taken() -> None:
    """It is named."""
    assert id_taken("m'1") == 'there is a message with the id "m\'1", or with its agent and key'
