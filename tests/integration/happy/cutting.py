"""Turns while the live connection is cut in one phase of them, again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from buttdial_sync.happy.client import HappyClient
from buttdial_sync.testing.happy_agents import FakeMachine, FakeTurn
from buttdial_sync.testing.happy_server import FakeHappyServer
from buttdial_sync.testing.http_messages import Request

Phase = Literal["before", "sending", "waiting", "working", "never connected"]
PATIENCE = 30.0


def turns(
    server: FakeHappyServer, machine: FakeMachine, client: HappyClient, phase: Phase, count: int
) -> list[str]:
    """Do so many turns, and return what is wrong with them."""
    session_id = server.add_session(machine).session.id
    if phase == "sending":
        server.faults.append(_cutting(server, lambda request: request.method == "POST"))
    elif phase == "waiting":
        server.faults.append(_cutting(server, lambda request: "after_seq" in request.query))
    elif phase == "working":
        machine.agent = _working(server)
    server.refuses_sockets = phase == "never connected"
    wrong = []
    for number in range(count):
        if phase == "before":
            server.cut_sockets()
        result = client.run_prompt(session_id, str(number), PATIENCE)
        seen = len(result.updates)
        if (result.status, seen) != ("completed", 4 if phase == "working" else 3):
            wrong.append(f"turn {number}: {result.status} after {seen} updates")
    prompts = server.prompts(session_id)
    if prompts != [str(number) for number in range(count)]:
        wrong.append(f"the agent got {prompts}")
    return wrong


def _cutting(
    server: FakeHappyServer, matches: Callable[[Request], bool]
) -> Callable[[Request], None]:
    """Cut the live connections when a request comes, and answer it all the same."""

    def cut(request: Request) -> None:
        if matches(request):
            server.cut_sockets()

    return cut


def _working(server: FakeHappyServer) -> Callable[[FakeTurn], None]:
    def works(turn: FakeTurn) -> None:
        server.cut_sockets()
        turn.say("one")
        server.cut_sockets()
        turn.say("two")
        server.cut_sockets()

    return works
