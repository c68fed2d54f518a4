"""A server that does not answer: no message is the cause, so none pays for it."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from buttdial_sync import Client, FailedMessage, SendResult
from buttdial_sync.testing.faults import FaultKind, Place
from tests.fakes import clear_faults
from tests.unit.retry.world import TOKEN, URL, Failing, World, world

HOURS = 3
PROXY = {"status": 502, "body": "<html>bad gateway</html>"}
OWN_503 = {"status": 503, "body": {"error": "Service shutting down", "retryable": True}}


def break_server(here: World, kind: FaultKind, on: Place, **options: Any) -> None:
    here.fake.fault(kind, on=on, count=1_000_000, **options)


@pytest.mark.parametrize(
    ("kind", "on", "options"),
    [
        ("refuse", "stream", {}),
        ("status", "stream", PROXY),
        ("status", "stream", {"status": 404, "body": "<html>nothing here</html>"}),
        ("status", "call", OWN_503),
    ],
)
def test_three_hours_of_outage(
    kind: FaultKind, on: Place, options: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is given up, no attempt is spent, and the log says it once."""
    with world("open-source") as here:
        break_server(here, kind, on, **options)
        loop = here.loop(workers=2)
        caplog.set_level(logging.WARNING, "buttdial_sync.retry")
        for minute in range(HOURS * 60):
            if minute % 10 == 0:
                here.add(f"m{minute}")
            assert loop.run_once().dead == 0
            here.go_on(60)
        assert here.repository.stats()["dead"] == 0
        rows = here.repository.list("pending")
        assert len(rows) == HOURS * 6
        assert {(row.retry_count, row.attempt_started_at) for row in rows} == {(0, None)}
        clear_faults(here.fake)
        assert loop.drain().delivered == HOURS * 6
        told = [each.message for each in caplog.records if "message m" not in each.message]
        assert sum("does not answer" in each for each in told) == 1
        assert sum("answers again, after" in each for each in told) == 1


@pytest.mark.parametrize("send_via", ["stream", "rest"])
def test_a_proxys_error_page_parks_one_message_per_worker(send_via: str) -> None:
    """Each may have been sent, so nobody tries with a message whether the outage is over."""
    with world("open-source") as here:
        here.client.close()
        # After such an answer a call waits on the stream until its time is over.
        options: dict[str, Any] = {"send_via": send_via, "max_attempts": 1, "timeout": 0.2}
        here.client = Client(URL, agent_token=TOKEN, **options)
        if send_via == "stream":
            here.client.ping(timeout=30.0)
        for number in range(40):
            here.add(f"m{number}")
        for place in ("post", "rest"):
            break_server(here, "status", place, **PROXY)
        loop = here.loop(workers=3)
        for _ in range(5):
            loop.run_once()
            here.go_on(60)
        rows = here.repository.list()
        in_doubt = [row for row in rows if row.attempt_started_at is not None]
        assert 1 <= len(in_doubt) <= 3
        assert {row.retry_count for row in rows if row not in in_doubt} == {0}


def test_a_server_that_gives_signs_of_life_and_loses_messages() -> None:
    """Each message that is tried is in doubt: they are few, however many workers there are."""
    with world("open-source") as here:
        for number in range(100):
            here.add(f"m{number}")
        break_server(here, "cut", "call", delivered=False)
        loop = here.loop(workers=3)
        for _ in range(60):
            loop.run_once()
            here.go_on(60)
        assert 8 <= here.repository.stats()["dead"] <= 12
        clear_faults(here.fake)
        here.go_on(1800)
        assert loop.drain().delivered >= 88


class Deaf(HTTPAdapter):
    """A way to the server on which one token gets no answer, as long as it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.token = ""

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        if self.token and self.token in request.headers.get("Authorization", ""):
            raise requests.ConnectTimeout("timed out", request=request)
        return super().send(request, *args, **options)


def test_a_silent_agent_does_not_keep_the_others_waiting(here: World) -> None:
    """Its messages rest for a minute and spend nothing, while the server answers the others."""
    way, silent = Deaf(), "silent-token"
    here.client.close()
    here.client = Client(
        URL, agent_token=TOKEN, transport_adapter=way, timeout=5.0, sleep=lambda _: None
    )
    loop = here.loop(token_for={"one": TOKEN, "two": silent}.get, batch_size=4)
    here.add("a", agent_id="one")
    assert loop.drain().delivered == 1
    way.token = silent
    for number in range(10):
        here.add(f"one-{number}", agent_id="one")
        here.add(f"two-{number}", agent_id="two")
    began = here.seconds
    loop.drain()
    assert Counter(body and body[:3] for body in here.bodies) == {"a": 1, "one": 10}
    assert here.seconds - began < 60
    waiting = here.repository.list("pending")
    assert {(row.agent_id, row.retry_count) for row in waiting} == {("two", 0)}
    assert {row.attempt_started_at for row in waiting} == {None}
    way.token = ""
    here.go_on(61)
    assert loop.drain().delivered == 10


def test_an_agent_that_is_silent_from_the_start(here: World) -> None:
    """Nobody was answered yet: then a message at hand says with which other token to ask."""
    way = Deaf()
    way.token = "silent-token"
    here.client.close()
    here.client = Client(URL, transport_adapter=way, timeout=5.0, sleep=lambda _: None)
    loop = here.loop(token_for={"1-silent": way.token, "2-heard": TOKEN}.get, batch_size=4)
    for number in range(3):
        here.add(f"silent-{number}", agent_id="1-silent")
    here.go_on(1)
    for number in range(3):
        here.add(f"heard-{number}", agent_id="2-heard")
    for _ in range(10):
        loop.drain()
        here.go_on(5)
    assert sorted(map(str, here.bodies)) == ["heard-0", "heard-1", "heard-2"]
    waiting = here.repository.list("pending")
    assert {(row.agent_id, row.retry_count) for row in waiting} == {("1-silent", 0)}


def test_an_outage_writes_no_rows(here: World) -> None:
    """While nobody answers, nothing is fetched."""
    for number in range(30):
        here.add(f"m{number}")
    break_server(here, "refuse", "stream")
    counting = Counting(here.repository)
    loop = here.loop(counting)
    report = loop.run_once()
    assert (report.fetched, report.postponed) == (20, 20)
    writes = counting.writes
    for _ in range(600):
        assert loop.run_once().fetched == 0
        here.go_on(0.5)
    assert counting.writes == writes


class Counting(Failing):
    """A repository that counts what is written."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.writes = 0
        self.lease = inner.lease

    def fetch_due(self, limit: int, *, except_agents: Any = (), at_most: Any = None) -> Any:
        found = self._inner.fetch_due(limit, except_agents=except_agents, at_most=at_most)
        self.writes += len(found)
        return found

    def release(self, messages: list[FailedMessage], **options: Any) -> Any:
        self.writes += len(messages)
        return self._inner.release(messages, **options)

    def __getattr__(self, name: str) -> Any:
        if name in {"begin_attempt", "mark_delivered", "increment_retry", "mark_dead", "postpone"}:
            self.writes += 1
        return super().__getattr__(name)


class Host:
    """A host's own client, which cannot be asked for a sign of life."""

    agent_id, agent_token, timeout = "agent-1", TOKEN, 5.0

    def __init__(self) -> None:
        self.is_up = False
        self.sent: list[str] = []

    def send_message(self, *, body: str, **_: Any) -> SendResult:
        if self.is_up:
            self.sent.append(body)
            return SendResult(outcome="sent", message_sid="SM-1")
        return SendResult(outcome="not_sent", stage_failed="transport", error="refused")

    def honours_idempotency_key(self, **_: Any) -> bool:
        return False


def test_a_hosts_own_client_tries_with_a_message(here: World) -> None:
    """One message a minute shows whether the server is back, and spends nothing."""
    host = Host()
    here.client = host  # type: ignore[assignment]
    for number in range(5):
        here.add(f"m{number}")
    loop = here.loop()
    for _ in range(60):
        assert loop.run_once().dead == 0
        here.go_on(60)
    host.is_up = True
    here.go_on(60)
    assert loop.drain().delivered == 5
    here.client = World(here.fake).client
