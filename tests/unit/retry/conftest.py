"""The worlds that the tests of the retry loop begin with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.retry.world import World, world


@pytest.fixture
def here() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.fixture
def open_source() -> Iterator[World]:
    with world("open-source") as made:
        yield made
