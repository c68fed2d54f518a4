"""A hosted and an open-source server behind ``responses``, and clients of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from buttdial_sync import Client
from buttdial_sync.testing import FakeButtDialServer

URL = "https://butt-dial.test"


@pytest.fixture
def hosted() -> Iterator[FakeButtDialServer]:
    fake = FakeButtDialServer()
    with fake.mocked(URL):
        yield fake


@pytest.fixture
def open_source() -> Iterator[FakeButtDialServer]:
    fake = FakeButtDialServer(dialect="open-source")
    with fake.mocked(URL):
        yield fake


@pytest.fixture
def make_client() -> Iterator[Callable[..., Client]]:
    """Return a maker of clients that never sleep; they are closed before the servers end."""
    with ExitStack() as stack:

        def make(**options: Any) -> Client:
            known = {"agent_token": "token-1", "token_in": "query", "sleep": lambda _: None}
            return stack.enter_context(Client(URL, **{**known, **options}))

        yield make


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    return make_client(token_in="auto")
