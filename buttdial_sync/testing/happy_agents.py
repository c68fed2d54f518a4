"""The machines of the fake Happy server, and the agents that run on them as plain functions."""

from __future__ import annotations

import itertools
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from buttdial_sync.happy.crypto import Cipher
from buttdial_sync.testing.happy_store import HappyStore, StoredMessage, StoredSession
from buttdial_sync.testing.raised import RaisedErrors, described

Announces = Literal["turns", "ready", "nothing"]
_SECONDS_TO_END = 5.0


class AgentFailure(Exception):  # noqa: N818 - a test raises it to say that its agent fails
    """Raised by an agent function: the turn fails."""


class TurnCancelled(Exception):  # noqa: N818 - it ends an agent function, and is not an error
    """Raised in an agent function whose turn was aborted."""


class FakeTurn:
    """
    What an agent function gets: one prompt, and the ways to work on it.

    Attributes:
        prompt: What the agent was sent.
        meta: The options that came with it.
        session_id: The session.
    """

    def __init__(self, process: AgentProcess, prompt: str, meta: Mapping[str, Any]) -> None:
        self.prompt = prompt
        self.meta = meta
        self.session_id = process.session.id
        self._process = process
        self._id = str(uuid.uuid4()) if process.machine.announces == "turns" else None
        self._calls = itertools.count(1)
        self.cancelled = threading.Event()

    def say(self, text: str, *, thinking: bool = False, usage: Any = None) -> None:
        """Write something."""
        event = {"t": "text", "text": text, **({"thinking": True} if thinking else {})}
        self.write(event, usage=usage)

    def call_tool(self, name: str, **arguments: Any) -> None:
        """Call a tool: its start and its end."""
        call = f"call-{next(self._calls)}"
        start = {"t": "tool-call-start", "call": call, "name": name, "title": name}
        self.write({**start, "description": name, "args": arguments})
        self.write({"t": "tool-call-end", "call": call})

    def ask(self, tool: str, **arguments: Any) -> Mapping[str, Any]:
        """
        Ask for a permission, and wait for the answer.

        Returns:
            The answer as the process got it, with ``approved``, ``reason``, ``decision``, ….
        """
        return self._process.ask(tool, arguments, self.cancelled)

    def write(self, event: Mapping[str, Any], *, usage: Any = None) -> None:
        """Write any event of the session's protocol."""
        if self.cancelled.is_set():
            raise TurnCancelled
        self._process.write_event(event, self._id, usage=usage)


AgentFunction = Callable[[FakeTurn], object]


def says_done(turn: FakeTurn) -> None:
    """Answer with one sentence. It is what an agent does unless a test says otherwise."""
    turn.say(f"Done: {turn.prompt}")


def _show_offline(machine: FakeMachine, _: object, is_offline: bool) -> bool:
    machine.record["active"] = not is_offline
    return is_offline


@attrs.define(eq=False, kw_only=True)
class FakeMachine:
    """
    A machine of the fake server. Its attributes may be changed at any time.

    Attributes:
        id: Its id.
        agent: What its agents do with a prompt.
        is_offline: Nobody answers for it.
        is_slow: It starts sessions, but the server gives up before it answers.
        is_silent: Not even the server answers calls of it.
        needs_approval: Its directories do not exist.
        spawn_error: What it refuses to start sessions with, or None.
        announces: How its agents end a turn: ``"turns"`` (today's), ``"ready"`` (older producers)
            or ``"nothing"``.
        is_instant: Its agents have answered before the sender of a message is told that it was
            stored.
        flavor: Which agent its sessions are of.
        spawned: The parameters of each session that was started on it.
        record: What the server says about it.
    """

    id: str
    cipher: Cipher = attrs.field(repr=False)
    agent: AgentFunction = says_done
    is_offline: bool = attrs.field(default=False, on_setattr=_show_offline)
    is_slow: bool = False
    is_silent: bool = False
    needs_approval: bool = False
    spawn_error: str | None = None
    announces: Announces = "turns"
    is_instant: bool = False
    flavor: str = "claude"
    spawned: list[Mapping[str, Any]] = attrs.field(factory=list)
    record: dict[str, Any] = attrs.field(factory=dict, repr=False)


class AgentProcess:
    """
    The process of one session on its machine. Prompts are worked on one after the other.

    Args:
        store: The server's tables.
        session: The session.
        machine: Where it runs.
        raised: Keeps what agent functions raise.
    """

    def __init__(
        self,
        store: HappyStore,
        session: StoredSession,
        machine: FakeMachine,
        raised: RaisedErrors,
    ) -> None:
        self.session = session
        self.machine = machine
        self.ended = False
        self._store = store
        self._raised = raised
        self._prompts: queue.SimpleQueue[StoredMessage | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._turn: FakeTurn | None = None
        self._answers: dict[str, queue.SimpleQueue[Mapping[str, Any] | None]] = {}
        self._lock = threading.Lock()

    def take(self, message: StoredMessage) -> None:
        """Take a message that was stored; only a user's is a prompt."""
        if self.ended:
            return
        if self.machine.is_instant:
            self._work_on(message)
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="fake-butt-dial-agent", daemon=True
                )
                self._thread.start()
        self._prompts.put(message)

    def write_event(
        self, event: Mapping[str, Any], turn: str | None, *, usage: Any = None
    ) -> StoredMessage:
        """Write an event as today's producers do."""
        envelope = {
            "id": str(uuid.uuid4()),
            "time": int(time.time() * 1000),
            "role": "agent",
            "ev": event,
            **({"turn": turn} if turn else {}),
            **({"usage": usage} if usage else {}),
        }
        return self.write({"role": "session", "content": envelope})

    def write(self, content: Any) -> StoredMessage:
        """Write any message."""
        sealed = self.session.cipher.seal(content)
        return self._store.add_message(self.session, sealed, str(uuid.uuid4()))[0]

    def ask(
        self, tool: str, arguments: Mapping[str, Any], cancelled: threading.Event
    ) -> Mapping[str, Any]:
        """Put a request into the agent's state, and wait for its answer."""
        request_id = str(uuid.uuid4())
        answers: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        request = {"tool": tool, "arguments": arguments, "createdAt": self._store.now()}
        with self._lock:  # what ends the turn comes before this, or finds the request
            if self.ended or cancelled.is_set():
                raise TurnCancelled
            self._answers[request_id] = answers
            self._store.change_agent_state(
                self.session, lambda state: state["requests"].update({request_id: request})
            )
        answer = answers.get()
        if answer is None or cancelled.is_set():
            raise TurnCancelled
        return answer

    def call(self, name: str, params: Mapping[str, Any]) -> Any:
        """Carry out a session RPC; what it returns is sealed by the caller."""
        if name == "permission":
            self.settle(str(params["id"]), "approved" if params["approved"] else "denied", params)
            return None
        if name == "abort":
            self.abort()
            return None
        if name == "killSession":
            self.end()
            return {"success": True, "message": "Killing happy-cli process"}
        return {"error": "Method not found"}

    def settle(self, request_id: str, status: str, params: Mapping[str, Any] | None = None) -> None:
        """Move a request to those that are answered; an unknown one is ignored in silence."""
        with self._lock:
            answers = self._answers.pop(request_id, None)
        if answers is None:
            return

        def move(state: dict[str, Any]) -> None:
            request = state["requests"].pop(request_id)
            kept = ("reason", "mode", "decision", "allowTools")
            given = {key: value for key, value in (params or {}).items() if key in kept}
            done = {**request, **given, "status": status, "completedAt": self._store.now()}
            state["completedRequests"][request_id] = done

        self._store.change_agent_state(self.session, move)
        answers.put(params)

    def abort(self) -> None:
        """End the turn that runs, if any."""
        for request_id in self._cancel():
            self.settle(request_id, "canceled")

    def end(self) -> None:
        """End the process: it archives its session, and takes no more prompts."""
        if self.ended:
            return
        self.abort()
        self.leave()
        with self._store.lock:
            self.session.active = False
            metadata = self.session.cipher.open(self.session.metadata)
            sealed = self.session.cipher.seal({**metadata, "lifecycleState": "archived"})
            version = self.session.metadata_version
        if self.session.id in self._store.sessions:
            self._store.set_metadata(self.session, sealed, version)

    def leave(self) -> None:
        """End the process as a machine that is switched off does: it tells nobody."""
        self.ended = True
        for answers in self._cancel().values():
            answers.put(None)
        self._prompts.put(None)

    def _cancel(self) -> dict[str, queue.SimpleQueue[Mapping[str, Any] | None]]:
        """Cancel the turn that runs, if any; return what it waits for."""
        turn = self._turn
        with self._lock:
            if turn is not None:
                turn.cancelled.set()
            return dict(self._answers)

    def join(self) -> None:
        """Wait until the agent function that runs has returned."""
        with self._lock:  # it is started under the lock
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_SECONDS_TO_END)

    def _run(self) -> None:
        while True:
            message = self._prompts.get()
            if message is None or self.ended:
                return
            self._work_on(message)

    def _work_on(self, message: StoredMessage) -> None:
        content = self.session.cipher.open(message.sealed)
        if content.get("role") != "user":
            return
        turn = FakeTurn(self, content["content"]["text"], content.get("meta") or {})
        self._turn = turn
        self._announce(turn, {"t": "turn-start"})
        status = "completed"
        try:
            self.machine.agent(turn)
        except TurnCancelled:
            status = "cancelled"
        except AgentFailure as failure:
            status = "failed"
            self.write_event({"t": "service", "text": str(failure)}, turn._id)
        except BaseException as error:  # noqa: BLE001 - closing the server raises it
            self._raised.keep(error)
            status = "failed"
            self.write_event({"t": "service", "text": described(error)}, turn._id)
        self._turn = None
        if turn.cancelled.is_set():
            status = "cancelled"
        self._announce(turn, {"t": "turn-end", "status": status})

    def _announce(self, turn: FakeTurn, event: Mapping[str, Any]) -> None:
        if self.machine.announces == "turns":
            self.write_event(event, turn._id)
        elif self.machine.announces == "ready" and event["t"] == "turn-end":
            data = {"type": "ready"}
            self.write({"role": "agent", "content": {"type": "event", "data": data}})
