"""A person or a rule in the loop: requests, answers, and answers that come too late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from buttdial_sync.errors import ConflictError
from buttdial_sync.happy import errors
from buttdial_sync.happy.client import HappyClient
from buttdial_sync.happy.models import PermissionRequest
from buttdial_sync.happy.results import Approval, Denial
from buttdial_sync.happy.updates import PermissionRequested, Update
from buttdial_sync.testing.happy_agents import FakeMachine, FakeTurn
from buttdial_sync.testing.happy_server import FakeHappyServer
from buttdial_sync.testing.http_messages import Reply, Request, json_response
from tests.integration.happy.conftest import LeapingClock, client_of

PATIENCE = 30.0


class Asking:
    """An agent that asks, and remembers what it was answered."""

    def __init__(self, tool: str = "Bash", times: int = 1) -> None:
        self.answers: list[Mapping[str, Any]] = []
        self._tool = tool
        self._times = times

    def __call__(self, turn: FakeTurn) -> None:
        for number in range(self._times):
            self.answers.append(turn.ask(self._tool, command=f"step {number}"))
        turn.say("Done.")


def asked(client: HappyClient, session_id: str) -> PermissionRequest:
    """Wait until the agent asks; return the request."""
    for update in client.follow(session_id, after_seq=0, timeout=PATIENCE):
        request = getattr(update, "request", None)
        if isinstance(request, PermissionRequest):
            return request
    raise AssertionError("the agent did not ask")


@pytest.fixture
def agent(machine: FakeMachine) -> Asking:
    machine.agent = asking = Asking()
    return asking


@pytest.fixture
def session_id(happy_server: FakeHappyServer, machine: FakeMachine) -> str:
    return happy_server.add_session(machine).session.id


def test_what_an_agent_asks(client: HappyClient, session_id: str, agent: Asking) -> None:
    """A request says what the agent wants to do; it is pending until it is answered."""
    assert client.pending_requests(session_id) == []
    client.send_message(session_id, "hello")
    request = asked(client, session_id)
    assert (request.tool, request.arguments) == ("Bash", {"command": "step 0"})
    assert (request.session_id, request.status) == (session_id, "pending")
    assert request.created_at is not None
    assert not request.is_question
    assert not request.is_plan
    assert client.pending_requests(session_id) == [request]
    answered = client.approve(session_id, request.id)
    assert (answered.id, answered.status) == (request.id, "approved")
    assert client.pending_requests(session_id) == []
    assert client.wait_for_turn_completion(session_id, PATIENCE).ok


@pytest.mark.parametrize(
    ("flavor", "answer", "form"),
    [
        ("claude", Approval(), {"approved": True}),
        (
            "claude",
            Approval(mode="acceptEdits", allow_tools=("Bash(ls)",), updated_input={"command": "x"}),
            {
                "approved": True,
                "mode": "acceptEdits",
                "allowTools": ["Bash(ls)"],
                "updatedInput": {"command": "x"},
            },
        ),
        (
            "claude",
            Denial(reason="no", mode="plan"),
            {"approved": False, "reason": "no", "mode": "plan"},
        ),
        ("codex", Approval(), {"approved": True, "decision": "approved"}),
        (
            "codex",
            Approval(for_session=True),
            {"approved": True, "decision": "approved_for_session"},
        ),
        ("gemini", Denial(reason="no"), {"approved": False, "decision": "denied"}),
        ("codex", Denial(abort=True), {"approved": False, "decision": "abort"}),
        ("claude", True, {"approved": True}),
        ("claude", False, {"approved": False}),
    ],
)
def test_the_forms_of_an_answer(
    client: HappyClient,
    machine: FakeMachine,
    agent: Asking,
    flavor: str,
    answer: Any,
    form: Mapping[str, Any],
) -> None:
    """Claude and the others read answers in forms of their own."""
    machine.flavor = flavor
    result = client.run_task("machine-1", "/repo", "hello", on_permission=lambda _: answer)
    assert result.ok
    sent = dict(agent.answers[0])
    assert sent.pop("id")
    assert sent == form


@pytest.mark.parametrize(
    ("flavor", "answer"),
    [
        ("claude", Approval(for_session=True)),
        ("claude", Denial(abort=True)),
        ("codex", Approval(mode="plan")),
        ("codex", Approval(allow_tools=["x"], updated_input={})),
        ("gemini", Denial(mode="plan")),
    ],
)
def test_what_an_agent_cannot_be_told(
    client: HappyClient, machine: FakeMachine, agent: Asking, flavor: str, answer: Any
) -> None:
    """An option that the agent would ignore in silence is refused."""
    machine.flavor = flavor
    with pytest.raises(errors.HappyConfigError):
        client.run_task("machine-1", "/repo", "hello", on_permission=lambda _: answer)
    assert agent.answers == []


def test_deny(client: HappyClient, session_id: str, agent: Asking) -> None:
    """A no has its reason, and the state shows it."""
    client.send_message(session_id, "hello")
    answered = client.deny(session_id, asked(client, session_id).id, reason="not today")
    assert (answered.status, answered.reason) == ("denied", "not today")
    client.wait_for_turn_completion(session_id, PATIENCE)  # the agent has its answer
    assert agent.answers[0]["reason"] == "not today"


def test_a_late_answer(client: HappyClient, session_id: str, agent: Asking) -> None:
    """The server ignores it in silence, so the state is asked: it says who was faster."""
    client.send_message(session_id, "hello")
    request = asked(client, session_id)
    client.deny(session_id, request.id)
    with pytest.raises(errors.RequestNotPending, match="denied already") as caught:
        client.approve(session_id, request.id)
    assert isinstance(caught.value, ConflictError)
    assert (caught.value.status, caught.value.session_id) == ("denied", session_id)
    with pytest.raises(errors.RequestNotPending, match="not known") as unknown:
        client.approve(session_id, "nonsense")
    assert unknown.value.status is None


def test_somebody_is_faster_at_the_last_moment(
    happy_server: FakeHappyServer, client: HappyClient, session_id: str, agent: Asking
) -> None:
    """An answer that crosses another's on its way is told too."""
    client.send_message(session_id, "hello")
    request = asked(client, session_id)
    process = happy_server.process(session_id)
    answer = process.call

    def cross(name: str, params: Mapping[str, Any]) -> Any:
        process.settle(request.id, "denied", {"approved": False})
        return answer(name, params)

    process.call = cross  # type: ignore[method-assign]
    with pytest.raises(errors.RequestNotPending) as caught:
        client.approve(session_id, request.id)
    assert caught.value.status == "denied"


def test_an_answer_that_is_not_taken(
    happy_server: FakeHappyServer, session_id: str, agent: Asking
) -> None:
    """An agent that does not confirm leaves the outcome unknown."""
    clock = LeapingClock()
    with client_of(happy_server, clock=clock) as client:
        client.send_message(session_id, "hello")
        request = asked(client, session_id)
        process = happy_server.process(session_id)
        process.call = lambda name, params: clock.leap()  # type: ignore[method-assign]
        with pytest.raises(errors.RpcOutcomeUnknownError, match="did not confirm"):
            client.approve(session_id, request.id)


def test_a_rule_answers_each_request_once(client: HappyClient, machine: FakeMachine) -> None:
    """All requests of a turn are asked about, in their order."""
    machine.agent = Asking(times=5)
    seen: list[str] = []

    def rule(request: PermissionRequest) -> Approval:
        seen.append(str(request.arguments["command"]))
        return Approval()

    result = client.run_task("machine-1", "/repo", "hello", on_permission=rule)
    assert result.ok
    assert seen == [f"step {number}" for number in range(5)]


def test_a_person_who_takes_their_time(
    happy_server: FakeHappyServer, machine: FakeMachine, agent: Asking
) -> None:
    """The time in on_permission is not the turn's."""
    session_id = happy_server.add_session(machine).session.id
    clock = LeapingClock()

    def slowly(request: PermissionRequest) -> bool:
        clock.leap()
        return True

    with client_of(happy_server, clock=clock) as client:
        assert client.run_prompt(session_id, "hello", PATIENCE, on_permission=slowly).ok


def test_a_person_was_faster_in_the_app(
    happy_server: FakeHappyServer, client: HappyClient, session_id: str, agent: Asking
) -> None:
    """The task goes on, whoever answered."""

    def too_late(request: PermissionRequest) -> bool:
        happy_server.process(session_id).settle(request.id, "approved", {"approved": True})
        return False

    assert client.run_prompt(session_id, "hello", PATIENCE, on_permission=too_late).ok
    assert agent.answers == [{"approved": True}]


@pytest.mark.parametrize("on_permission", [None, lambda request: None])
def test_nobody_answers(happy_server: FakeHappyServer, agent: Asking, on_permission: Any) -> None:
    """The result names what the agent waits for, and the session stays."""
    clock = LeapingClock()

    def time_passes(update: Update) -> None:
        if isinstance(update, PermissionRequested):
            clock.leap()

    with client_of(happy_server, clock=clock) as client:
        result = client.run_task(
            "machine-1", "/repo", "hello", on_permission=on_permission, on_update=time_passes
        )
        assert (result.status, [each.tool for each in result.requests]) == (
            "waiting_for_permission",
            ["Bash"],
        )
        assert not happy_server.process(result.session_id).ended
        with pytest.raises(errors.TimeoutError, match="waits for permission: Bash"):
            client.wait_for_turn_completion(result.session_id, on_update=time_passes)
        client.approve(result.session_id, result.requests[0].id)
        assert client.wait_for_turn_completion(result.session_id, PATIENCE).ok


@pytest.mark.parametrize(
    ("tool", "is_question", "is_plan"),
    [("AskUserQuestion", True, False), ("ExitPlanMode", False, True)],
)
def test_questions_and_plans(
    client: HappyClient, machine: FakeMachine, tool: str, is_question: bool, is_plan: bool
) -> None:
    """They are asked in every mode, yolo too."""
    machine.agent = Asking(tool)
    seen: list[PermissionRequest] = []

    def rule(request: PermissionRequest) -> Approval:
        seen.append(request)
        return Approval(updated_input={"answers": {"Which?": "Both"}})

    assert client.run_task("machine-1", "/repo", "hello", on_permission=rule).ok
    assert (seen[0].is_question, seen[0].is_plan) == (is_question, is_plan)


def test_abort(client: HappyClient, session_id: str, agent: Asking) -> None:
    """A turn is ended from outside; its requests are withdrawn."""
    client.send_message(session_id, "hello")
    request = asked(client, session_id)
    client.abort_turn(session_id)
    assert client.wait_for_turn_completion(session_id, PATIENCE).status == "cancelled"
    with pytest.raises(errors.RequestNotPending, match="canceled") as caught:
        client.approve(session_id, request.id)
    assert caught.value.status == "canceled"


def test_the_live_connection_is_cut_while_answering(
    happy_server: FakeHappyServer, client: HappyClient, machine: FakeMachine
) -> None:
    """A request that came while the connection was lost is seen, and the answer arrives."""
    machine.agent = Asking(times=10)

    def rule(request: PermissionRequest) -> bool:
        happy_server.cut_sockets()
        return True

    session_id = happy_server.add_session(machine).session.id
    with client_of(happy_server) as patient:
        assert patient.run_prompt(session_id, "hello", PATIENCE, on_permission=rule).ok


def test_an_outage_while_answering(
    happy_server: FakeHappyServer, machine: FakeMachine, session_id: str, agent: Asking
) -> None:
    """The answer is not lost: it is given when the server is back."""
    failures = [0]

    def fails(request: Request) -> Reply | None:
        if failures[0]:
            failures[0] -= 1
            happy_server.refuses_sockets = bool(failures[0])
            return json_response(502, {})
        return None

    def rule(request: PermissionRequest) -> bool:
        failures[0] = 12
        happy_server.refuses_sockets = True
        happy_server.cut_sockets()
        return True

    happy_server.faults.append(fails)
    with client_of(happy_server, sleep=lambda _: None) as client:
        assert client.run_prompt(session_id, "hello", PATIENCE, on_permission=rule).ok
    assert [answer["approved"] for answer in agent.answers] == [True]
    assert failures == [0]


def test_an_agent_that_cannot_be_reached_for_longer_than_the_timeout(
    happy_server: FakeHappyServer, machine: FakeMachine, session_id: str, agent: Asking
) -> None:
    """A laptop that sleeps for a minute does not end a run of an hour."""
    asleep = [60]  # more calls than the client makes within its timeout

    def sleeps(sid: str, data: Mapping[str, Any]) -> Any:
        if data["method"].endswith(":permission") and asleep[0]:
            asleep[0] -= 1
            return {"ok": False, "error": "operation has timed out"}
        return happy_server._on_rpc_call(sid, data)

    happy_server._io.on("rpc-call", sleeps)
    with client_of(happy_server, timeout=0.5) as client:
        options: dict[str, Any] = {"on_permission": lambda _: True, "timeout": PATIENCE}
        assert client.run_prompt(session_id, "hello", 4 * PATIENCE, **options).ok
    assert asleep == [0]
    assert [answer["approved"] for answer in agent.answers] == [True]


def test_an_answer_is_repeated_with_a_pause(
    happy_server: FakeHappyServer, session_id: str, agent: Asking
) -> None:
    """A server that says at once that it does not know is not asked without a pause."""
    unknown = [3]

    def disconnected(sid: str, data: Mapping[str, Any]) -> Any:
        if data["method"].endswith(":permission") and unknown[0]:
            unknown[0] -= 1
            return {"ok": False, "error": "RPC target disconnected"}
        return happy_server._on_rpc_call(sid, data)

    happy_server._io.on("rpc-call", disconnected)
    slept: list[float] = []
    with client_of(happy_server, sleep=slept.append, poll_interval=0.25) as client:
        client.send_message(session_id, "hello")
        request = asked(client, session_id)
        assert client.approve(session_id, request.id).status == "approved"
    assert slept == [0.25] * 3


@pytest.mark.parametrize("is_confirmed", [True, False])
def test_an_outage_after_the_answer(
    happy_server: FakeHappyServer,
    client: HappyClient,
    session_id: str,
    agent: Asking,
    is_confirmed: bool,
) -> None:
    """The agent may have it: what the failed look says of itself is not said of the answer."""
    session = happy_server.process(session_id).session

    def goes_down(sid: str, data: Mapping[str, Any]) -> Any:
        if not data["method"].endswith(":permission"):
            return happy_server._on_rpc_call(sid, data)
        happy_server.faults.append(lambda request: json_response(429, {"error": "too many"}))
        if not is_confirmed:
            return {"ok": False, "error": "operation has timed out"}
        session.active = False
        happy_server.push_activity(session_id)  # has the client look at the server
        return {"ok": True, "result": ""}

    client.send_message(session_id, "hello")
    request = asked(client, session_id)
    happy_server._io.on("rpc-call", goes_down)
    with pytest.raises(errors.RpcOutcomeUnknownError) as caught:
        client.approve(session_id, request.id)
    assert (caught.value.outcome, caught.value.session_id) == ("unknown", session_id)


def test_the_process_ends_while_a_person_thinks(
    happy_server: FakeHappyServer, client: HappyClient, session_id: str, agent: Asking
) -> None:
    """An answer to nobody does not cost the result."""

    def rule(request: PermissionRequest) -> bool:
        happy_server.process(session_id).end()
        return True

    result = client.run_prompt(session_id, "hello", PATIENCE, on_permission=rule)
    assert result.status in {"archived", "cancelled"}


def test_a_process_that_is_gone(
    happy_server: FakeHappyServer, client: HappyClient, session_id: str, agent: Asking
) -> None:
    """An answer to nobody is told by name."""
    client.send_message(session_id, "hello")
    request = asked(client, session_id)
    happy_server.process(session_id).ended = True
    with pytest.raises(errors.SessionOfflineError) as caught:
        client.approve(session_id, request.id)
    assert (caught.value.outcome, caught.value.session_id) == ("not_sent", session_id)
