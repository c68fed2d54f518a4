"""A fake server and a client of it, without sockets and without waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from buttdial_sync import AccountsClient
from buttdial_sync.testing import FakeButtDialServer

BASE_URL = "https://butt-dial.test"
TEAM_TOKEN = "team-s3cret"


@contextmanager
def workspace(
    fake: FakeButtDialServer | None = None, **options: Any
) -> Iterator[tuple[FakeButtDialServer, AccountsClient]]:
    """Give a fake server and a client of it; pauses between attempts take no time."""
    fake = fake or FakeButtDialServer()
    settings = {"team_token": TEAM_TOKEN, "sleep": lambda _seconds: None, **options}
    with fake.mocked(BASE_URL), AccountsClient(BASE_URL, **settings) as client:
        yield fake, client
