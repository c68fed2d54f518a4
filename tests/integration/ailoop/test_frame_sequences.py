"""Whatever comes over the wire, in whatever order: only an approval of this prompt is a yes."""

from __future__ import annotations

import uuid

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buttdial_sync.ailoop import AiloopClient, Authorization
from buttdial_sync.ailoop.messages import RESPONSE_TYPES
from buttdial_sync.testing import FakeAiloopServer
from buttdial_sync.testing.ailoop_hub import FakePrompt, Generation
from tests.integration.ailoop.conftest import PATIENT, connections_are_in_step

DENIALS = {
    "authorization_denied": "denied",
    "text": "text",
    "timeout": "timed_out",
    "authorization_approved": "approved",
}


@attrs.frozen
class Frame:
    """A message; ``twice`` sends it again with the same id, as a replay does."""

    response_type: str
    of_this_prompt: bool = True
    sender_type: str = "HUMAN"
    twice: bool = False


@attrs.frozen
class Cut:
    """The connection breaks; the messages that follow at once come while nobody listens."""

    how: str


FRAMES = st.builds(
    Frame,
    st.sampled_from([*RESPONSE_TYPES, "authorization_approved", "cancelled", "shrug"]),
    st.sampled_from([True, False, False]),
    st.sampled_from(["HUMAN", "HUMAN", "HUMAN", "AGENT"]),
    st.booleans(),
)
CUTS = st.builds(Cut, st.sampled_from(["drop", "truncated", "restart"]))
SEQUENCES = st.tuples(
    st.lists(FRAMES, max_size=4),
    st.just([]) | st.just([]) | st.just([]) | st.lists(CUTS, min_size=1, max_size=1),
    st.lists(FRAMES, max_size=4),
).map(lambda parts: [each for part in parts for each in part])


def expected(sequence: list[Frame | Cut]) -> str:
    """The rule: the first response to this prompt that is no skip decides; a restart ends it."""
    for each in sequence:
        if isinstance(each, Cut):
            if each.how == "restart":
                return "lost"
        elif each.of_this_prompt:
            if each.response_type not in RESPONSE_TYPES:
                return "malformed"
            if each.sender_type != "HUMAN":
                return "forged"
            if each.response_type != "cancelled":
                return DENIALS[each.response_type]
    return "denied"  # the server's own end of the prompt


class Play:
    """Plays a sequence to the client as soon as its prompt is shown."""

    def __init__(self, server: FakeAiloopServer, sequence: list[Frame | Cut]) -> None:
        self.server = server
        self.sequence = sequence
        self.is_decided = False
        self.is_over = False

    def __call__(self, prompt: FakePrompt) -> None:
        for number, each in enumerate(self.sequence):
            if isinstance(each, Cut):
                self.cut(each.how, prompt, self.sequence[number + 1 :])
                break
            self.publish(each, prompt)
        prompt.expire()
        with self.server.hub.changed:
            self.is_over = True
            self.server.hub.changed.notify_all()

    def publish(self, frame: Frame | Cut, prompt: FakePrompt) -> None:
        assert isinstance(frame, Frame)
        message = self.server.post(
            {"type": "response", "answer": None, "response_type": frame.response_type},
            sender_type=frame.sender_type,
            correlation_id=prompt.id if frame.of_this_prompt else str(uuid.uuid4()),
        )
        if frame.twice:
            self.server.hub.publish(message, stored=False)

    def cut(self, how: str, prompt: FakePrompt, rest: list[Frame | Cut]) -> None:
        server = self.server
        server.wait_until_received()
        if how == "restart":
            server.restart()
        elif how == "truncated":
            broken = list(server.hub.sockets)
            server.send_text('{"id": "')
            # The client ends such a connection. Until it has, the next prompt could leave on it.
            server.wait_until(lambda: not any(each in server.hub.sockets for each in broken))
        with server.hub.changed:
            if how == "drop":
                server.drop_sockets()
            for frame in rest:
                self.publish(frame, prompt)
        self.wait_for_client()

    def wait_for_client(self) -> None:
        """Wait until the client listens again, or has decided."""
        hub = self.server.hub
        self.server.wait_until(
            lambda: self.is_decided or any(each.is_viewer for each in hub.sockets.values())
        )

    def authorize(self, client: AiloopClient) -> Authorization:
        self.server.when_asked(self)
        result = client.authorize("Deploy", timeout=PATIENT)
        with self.server.hub.changed:
            self.is_decided = True
            self.server.hub.changed.notify_all()
        self.server.wait_until(lambda: self.is_over)
        self.server.wait_until(lambda: not self.server.hub.queue and not self.server.hub.active)
        connections_are_in_step(self.server)
        return result


@pytest.mark.parametrize("generation", ["decision", "question"])
def test_nothing_but_an_approval_is_a_yes(generation: Generation) -> None:
    """Responses of every type, of this prompt and others, twice, around breaks and restarts."""
    with (
        FakeAiloopServer(generation) as server,
        AiloopClient(server.url, timeout=PATIENT, accept_timeout=PATIENT) as client,
    ):

        @given(SEQUENCES)
        def holds(sequence: list[Frame | Cut]) -> None:
            result = Play(server, sequence).authorize(client)
            assert result.reason == expected(sequence)
            assert result.approved is (expected(sequence) == "approved")

        holds()
