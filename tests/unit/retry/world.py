"""A server, a client, a repository and clocks that only move when they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from buttdial_sync import Client, FailedMessage, Outbox, RetryLoop
from buttdial_sync.retry import MemoryRepository
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.conformance import SettableClock

URL = "https://butt-dial.test"
TOKEN = "good-token"


class World:
    """Everything that a test of the loop needs; sleeping moves both clocks."""

    def __init__(self, fake: FakeButtDialServer) -> None:
        self.fake = fake
        self.clock = SettableClock()
        self.seconds = 0.0
        self.slept: list[float] = []
        self.client = Client(
            URL,
            agent_id="agent-1",
            agent_token=TOKEN,
            timeout=5.0,
            sleep=lambda _: None,
            token_in="header" if fake.dialect == "hosted" else "query",
        )
        self.repository = MemoryRepository(clock=self.clock, keep_tokens=True)

    def loop(self, repository: Any = None, **options: Any) -> RetryLoop:
        given: dict[str, Any] = {
            "clock": self.clock,
            "monotonic": lambda: self.seconds,
            "sleep": self.sleep,
            "random_fraction": lambda: 0.5,
            **options,
        }
        return RetryLoop(repository or self.repository, self.client, **given)

    def outbox(self, repository: Any = None, **options: Any) -> Outbox:
        return Outbox(
            self.client,
            repository or self.repository,
            clock=self.clock,
            sleep=self.sleep,
            **options,
        )

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.go_on(seconds)

    def go_on(self, seconds: float) -> None:
        self.clock.move(seconds)
        self.seconds += seconds

    def add(self, msg_id: str = "a", **fields: Any) -> None:
        given: dict[str, Any] = {"recipient": "+14155550123", "body": msg_id, **fields}
        self.repository.add(FailedMessage(id=msg_id, **given))

    def row(self, msg_id: str = "a") -> FailedMessage:
        found = self.repository.get(msg_id)
        assert found is not None
        return found

    def minutes_until_due(self, msg_id: str = "a") -> float:
        due = self.row(msg_id).next_retry_at
        assert due is not None
        return (due - self.clock()) / timedelta(minutes=1)

    @property
    def bodies(self) -> list[str | None]:
        """What reached people, in order."""
        return [call.body for call in self.fake.delivered]


@contextmanager
def world(dialect: Any = "hosted", tokens: list[str] | None = None) -> Iterator[World]:
    fake = FakeButtDialServer(dialect=dialect, tokens=tokens)
    with fake.mocked(URL):
        made = World(fake)
        try:
            yield made
        finally:
            made.client.close()


class Failing:
    """A repository of which some methods raise; the rest is another's."""

    def __init__(self, inner: Any, *methods: str, times: int = 10_000) -> None:
        self._inner = inner
        self._methods = methods
        self._left = times
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        return partial(self._raise_or, method) if name in self._methods else method

    def _raise_or(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.calls += 1
        self._left -= 1
        if self._left >= 0:
            raise OSError("the disk is full")
        return method(*args, **options)


class Interrupted(Failing):
    """Ctrl-C comes once in some methods, before their work or after it."""

    def __init__(self, inner: Any, *methods: str, works_first: bool) -> None:
        super().__init__(inner, *methods, times=1)
        self._works_first = works_first

    def _raise_or(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.calls += 1
        self._left -= 1
        if self._left < 0 or self._works_first:
            done = method(*args, **options)
        if self._left >= 0:
            raise KeyboardInterrupt
        return done


Clock = Callable[[], datetime]
