"""A host with many tenants at one address, of which some have tokens that do not work any more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import AccountsClient, AuthError, Client, SendResult
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.fakes import failed_logins

PROGRAM = Path(__file__).with_name("tenants_program.py")
TOKENS = [f"{'dead' if number % 4 == 0 else 'good'}-{number}" for number in range(60)]
GOOD = [token for token in TOKENS if token.startswith("good")]
LONGEST_DELAY = 5.0


@pytest.fixture(params=["hosted", "open-source"])
def server(request: pytest.FixtureRequest) -> Iterator[LoopbackServer]:
    fake = FakeButtDialServer(dialect=request.param, tokens=GOOD)
    # What the hosted service does is not known; without this nobody could use 15 dead tokens.
    fake.core.token_check.resets_after_login = True
    with fake.listen() as loopback:
        yield loopback


class Time:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def check(server: LoopbackServer, told: list[Any], *, processes: int) -> None:
    """Compare what came back for (token, outcome, code, attempts, delay) with what must."""
    for token, outcome, code, _, delay in told:
        if token in GOOD:
            assert (outcome, delay < LONGEST_DELAY) == ("sent", True), (token, code, delay)
        else:
            assert outcome == "rejected", (token, code)
            assert code in {"AUTH_INVALID_TOKEN", "AUTH_TOKEN_REVOKED"}
    # Each process learns on its own: one failed login for a dead token, and none later.
    later = told[len(TOKENS) * processes :] if processes == 1 else []
    assert {each[3] for each in later if each[0] not in GOOD} <= {0}
    assert server.fake.core.token_check.lockouts == 0
    missing = 0 if server.fake.dialect == "hosted" else processes
    assert failed_logins(server.fake) == 15 * processes + missing
    assert len(server.fake.delivered) == 3 * len(GOOD) * processes


def test_one_process(server: LoopbackServer) -> None:
    """A dead token costs one failed login, and nobody else waits for it."""
    clock, told = Time(), []
    with Client(
        server.base_url, clock=clock, sleep=clock.sleep, timeout=60.0, idle_ping=1000.0
    ) as client:
        for _ in range(3):
            for token in TOKENS:
                began = clock.now
                result = client.as_agent(token).send_message("+14155550123", "x", "sms")
                delay = clock.now - began
                told.append((token, result.outcome, result.error_code, result.attempts, delay))
    check(server, told, processes=1)


def test_four_workers(server: LoopbackServer) -> None:
    """Processes that were not forked from one parent know nothing of each other."""
    environment = {**os.environ, "BUTT_DIAL_BASE_URL": server.base_url}
    command = [sys.executable, str(PROGRAM), *TOKENS]
    workers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = []
    for worker in workers:
        output, _ = worker.communicate(timeout=120)
        assert worker.returncode == 0
        told += json.loads(output)
    check(server, told, processes=4)


def test_sixty_tenants_need_sixty_streams() -> None:
    """A session stays for the next message of its tenant, round after round."""
    with FakeButtDialServer().listen() as server, Client(server.base_url) as client:
        for _ in range(3):
            for number in range(60):
                assert client.send_message("+1", "x", "sms", agent_token=f"t-{number}").ok
        assert server.fake.streams_opened == 60


@pytest.mark.parametrize("server", ["hosted"], indirect=True)
def test_a_server_that_does_not_forget(server: LoopbackServer) -> None:
    """Before the last failed login only tokens that have worked are used; no lockout follows."""
    server.fake.core.token_check.resets_after_login = False
    clock = Time()
    with Client(server.base_url, clock=clock, sleep=clock.sleep, idle_ping=1000.0) as client:
        for token in GOOD[:3]:
            assert client.as_agent(token).ping() >= 0
        results = {
            token: client.as_agent(token).send_message("+14155550123", "x", "sms")
            for token in TOKENS
        }
    assert server.fake.core.token_check.lockouts == 0
    assert failed_logins(server.fake) == 9
    assert all(results[token].ok for token in GOOD[:3])
    held = [each for each in results.values() if each.error_code == "LOGIN_POSTPONED"]
    assert held
    assert all(each.retryable and each.retry_after for each in held)


def test_all_clients_of_the_process_know_it(server: LoopbackServer) -> None:
    """What one client was refused no other one tries: the same error comes without a request."""
    with Client(server.base_url, agent_token="dead-0") as client:
        first = client.send_message("+1", "x")
    before = len(server.fake.requests)
    with (
        Client(server.base_url, agent_token="dead-0") as client,
        AccountsClient(server.base_url, team_token="dead-0") as accounts,
    ):
        again: SendResult = client.send_message("+1", "x")
        for call in (client.ping, client.list_tools, client.profile.get, accounts.get_account):
            with pytest.raises(AuthError, match=str(first.error)):
                call()
        assert len(server.fake.requests) == before
        assert (first.attempts, again.attempts) == (1, 0)
        assert (again.outcome, again.error, again.error_code, again.error_type) == (
            first.outcome, first.error, first.error_code, first.error_type,
        )  # fmt: skip
        assert again.needs_operator
        client.forget_refusals()
        server.fake.core.token_check.allow("dead-0")
        assert client.send_message("+1", "x", "sms").ok


def test_a_lockout_is_not_knocked_at(server: LoopbackServer) -> None:
    """Until its end all calls with a token fail at once; one without a token is not concerned."""
    with Client(server.base_url, agent_token=GOOD[0]) as client:
        body = {"error": "Too many failed attempts. Try again later."}
        server.fake.fault("status", on="stream", status=429, body=body)
        first = client.send_message("+1", "x", "sms")
        again = client.send_message("+1", "x", "sms", agent_token=GOOD[1])
        assert [each.error_code for each in (first, again)] == ["AUTH_LOCKED_OUT"] * 2
        assert (first.attempts, again.attempts, len(server.fake.requests)) == (1, 0, 1)
        assert again.retryable
        assert again.retry_after is not None
        assert again.retry_after <= 900.0
        client.forget_refusals()
        assert client.send_message("+1", "x", "sms").ok


def test_where_the_token_goes_is_learned_from_a_refusal() -> None:
    """A dead token costs one failed login, not one in the header and one in the URL each time."""
    with FakeButtDialServer(dialect="open-source", tokens=[]).listen() as server:
        with Client(server.base_url) as client:
            for number in range(3):
                client.forget_refusals()
                assert client.send_message("+1", "x", agent_token=f"dead-{number}").needs_operator
        assert failed_logins(server.fake) == 1 + 3
