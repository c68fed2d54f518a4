"""What the fake ailoop server knows: messages, the queue of prompts, and people who answer."""

from __future__ import annotations

import re
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from itertools import chain
from typing import Any, Literal, Protocol

from buttdial_sync.testing.raised import RaisedErrors

Generation = Literal["decision", "question"]
Way = Literal["http", "terminal"]
JsonObject = dict[str, Any]

_REPLAYED = 500
_PROMPTS = frozenset({"decision", "question", "authorization", "navigate"})
_UNANSWERED: dict[str, str] = {"authorization": "authorization_denied", "navigate": "cancelled"}
_SECONDS_TO_END = 5.0


class Socket(Protocol):
    """A WebSocket connection, as the hub sees it."""

    def deliver(self, message: JsonObject) -> None:
        """Send a message."""

    def send_text(self, text: str) -> None:
        """Send a text as it is."""

    def ping(self) -> Callable[[], bool]:
        """Send a ping; return what tells whether it was answered."""

    def cut(self) -> None:
        """End the connection."""


class Subscription:
    """What a connection hears. It begins as an agent that hears nothing."""

    def __init__(self) -> None:
        self.is_viewer = False
        self.channels: set[str] = set()

    def hears(self, channel: str) -> bool:
        """Whether messages of a channel go to it."""
        return self.is_viewer or channel in self.channels


class FakePrompt:
    """
    A prompt that was sent over WebSocket, and what a person can do with it.

    Attributes:
        message: The message.
        content: Its content.
        times_shown: How often it was shown.
    """

    def __init__(self, hub: AiloopHub, message: JsonObject) -> None:
        self._hub = hub
        self.message = message
        self.content: JsonObject = message["content"]
        self.times_shown = 0

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.message["id"])

    @property
    def kind(self) -> str:
        """``"decision"``, ``"question"``, ``"authorization"`` or ``"navigate"``."""
        return str(self.content["type"])

    def answer(self, text: str | None, *, at: Way = "http") -> None:
        """Type an answer: an option's id, its label, its place from 1, or something else."""
        self._hub.respond(self.id, text, "text", at)

    def approve(self, *, at: Way = "http") -> None:
        """Say yes."""
        self._hub.respond(self.id, None, "authorization_approved", at)

    def deny(self, *, at: Way = "http") -> None:
        """Say no."""
        self._hub.respond(self.id, None, "authorization_denied", at)

    def skip(self) -> None:
        """Put it off: it is shown again."""
        self._hub.respond(self.id, None, "cancelled", "terminal")

    def expire(self) -> None:
        """Let the server's time for it pass now."""
        self._hub.respond(
            self.id, None, _UNANSWERED.get(self.kind, "timeout"), "terminal", ends=True
        )


Reaction = Callable[[FakePrompt], None]


class AiloopHub:
    """
    The server without its sockets. Safe to share between threads.

    Args:
        generation: ``"decision"`` for 1.0.14, ``"question"`` for 1.0.0.
    """

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.changed = threading.Condition(threading.RLock())
        self.sockets: dict[Socket, Subscription] = {}
        self.asked: list[FakePrompt] = []
        self.responses: list[JsonObject] = []
        self.reaction: Reaction | None = None
        self.accepts_frames = True
        self.ignored = 0
        self.raised = RaisedErrors()
        self.shown = 0
        self._loop: threading.Thread | None = None
        self.forget_everything()

    def forget_everything(self) -> None:
        """Lose the memory, as a restart does."""
        with self.changed:
            self.channels: dict[str, list[JsonObject]] = {}
            self.queue: deque[FakePrompt] = deque()
            self.active: FakePrompt | None = None
            self._showings: deque[tuple[FakePrompt, int, Reaction | None]] = deque()
            self.tasks: dict[tuple[str, str], JsonObject] = {}
            self.changed.notify_all()

    def start(self) -> None:
        """React to prompts from now on, and let their time pass, one at a time."""
        self._loop = threading.Thread(
            target=self._watch_prompts, name="fake-ailoop-queue", daemon=True
        )
        self._loop.start()

    def stop(self) -> None:
        """React no more."""
        with self.changed:
            loop, self._loop = self._loop, None
            self.changed.notify_all()
        if loop is not None and loop is not threading.current_thread():
            loop.join(_SECONDS_TO_END)

    def find(self, message_id: str) -> JsonObject | None:
        """Return a message by its id, or None."""
        with self.changed:
            messages = chain.from_iterable(self.channels.values())
            return next((each for each in messages if each["id"] == message_id), None)

    def receive(self, socket: Socket, frame: Any) -> None:
        """Take a frame that came over WebSocket. Whatever is wrong with it is not told."""
        with self.changed:
            subscription = self.sockets.get(socket)
            if subscription is None or not isinstance(frame, Mapping):
                return
            if not self.accepts_frames:
                self.ignored += 1
                self.changed.notify_all()
                return
            if "subscribe" in frame:
                subscription.is_viewer = True
                self.changed.notify_all()
                for messages in self.channels.values():
                    for message in messages[-_REPLAYED:]:
                        socket.deliver(message)
            elif not subscription.is_viewer and fault_of(frame, self.generation) is None:
                message = canonical(frame)
                subscription.channels.add(message["channel"])
                self.publish(message)
                if message["content"]["type"] in _PROMPTS:
                    prompt = FakePrompt(self, message)
                    self.asked.append(prompt)
                    self.queue.append(prompt)
                    self._show_next()

    def publish(self, message: JsonObject, *, stored: bool = True) -> None:
        """Send a message to all that hear its channel."""
        with self.changed:
            if stored:
                self.channels.setdefault(message["channel"], []).append(message)
            for socket, subscription in list(self.sockets.items()):
                if subscription.hears(message["channel"]):
                    socket.deliver(message)

    def respond(
        self,
        message_id: str,
        answer: str | None,
        response_type: str,
        at: Way,
        *,
        ends: bool = False,
    ) -> JsonObject | None:
        """
        Answer a message.

        Over HTTP the raw answer is stored and sent; then, if the prompt is shown and the answer is
        valid, the server's own is sent. At the terminal there is only the latter.

        Returns:
            The raw response; None if there is no such message.
        """
        with self.changed:
            original = self.find(message_id)
            if original is None:
                return None
            raw = _response(original, answer, response_type)
            if at == "http":
                self.responses.append(raw)
                self.publish(raw)
            prompt = self.active
            if prompt is None or prompt.id != message_id:
                return raw
            settled = self._settled(prompt, raw["content"])
            if settled is not None:
                self.publish(settled, stored=False)
                self.active = None
                if response_type == "cancelled" and not ends:
                    self.queue.append(prompt)
                self._show_next()
            return raw

    def _settled(self, prompt: FakePrompt, content: JsonObject) -> JsonObject | None:
        answer, response_type = content["answer"], content["response_type"]
        if response_type != "text" or prompt.kind in {"authorization", "navigate"}:
            return _response(prompt.message, None, response_type)
        if prompt.kind == "question":
            choices = prompt.content.get("choices") or []
            index = int(answer) - 1 if str(answer).isdigit() else -1
            known = {"index": index, "value": choices[index]} if 0 <= index < len(choices) else None
            return _response(prompt.message, answer, "text", known)
        if answer is None:
            return _response(prompt.message, None, "text")
        return _chosen(prompt.message, answer)

    def _show_next(self) -> None:
        """Show the first prompt of the queue, unless one is shown. The caller has the lock."""
        if self.active is None and self.queue:
            self.active = self.queue.popleft()
            self.active.times_shown += 1
            self.shown += 1
            self._showings.append((self.active, self.shown, self.reaction))
        self.changed.notify_all()

    def _watch_prompts(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self._is_stopped() or bool(self._showings))
                if self._is_stopped():
                    return
                prompt, shown, reaction = self._showings.popleft()
            if reaction is not None:
                try:
                    reaction(prompt)
                except BaseException as error:  # noqa: BLE001 - closing the server raises it
                    self.raised.keep(error)
                    prompt.expire()
            if not self._is_over(prompt, shown):
                prompt.expire()

    def _is_stopped(self) -> bool:
        # After a restart from within a reaction another thread watches the prompts.
        return self._loop is not threading.current_thread()

    def _is_over(self, prompt: FakePrompt, shown: int) -> bool:
        """Wait until a showing is over; return False when its time has passed."""
        with self.changed:
            return self.changed.wait_for(
                lambda: self._is_stopped() or self.active is not prompt or self.shown != shown,
                prompt.content.get("timeout_seconds") or None,
            )


def canonical(message: Mapping[str, Any]) -> JsonObject:
    """Return a message as the server stores it."""
    kept = {
        name: message[name]
        for name in ("id", "channel", "sender_type", "content", "metadata")
        if message.get(name) is not None
    }
    kept["timestamp"] = _moment(_parsed(message["timestamp"]))
    kept["correlation_id"] = message.get("correlation_id")
    return kept


_FIELDS: dict[str, tuple[str, ...]] = {
    "decision": ("decision_id", "summary", "options", "timeout_seconds"),
    "question": ("text", "timeout_seconds"),
    "authorization": ("action", "timeout_seconds"),
    "notification": ("text",),
    "navigate": ("url",),
    "response": ("response_type",),
    "task_create": ("task",),
    "task_update": ("task_id", "state"),
    "task_dependency_add": (),
    "task_dependency_remove": (),
}
_ANSWERS = frozenset(
    {"text", "authorization_approved", "authorization_denied", "timeout", "cancelled"}
)


def fault_of(message: Any, generation: Generation) -> str | None:
    """Return what the server finds wrong with a message, or None."""
    if not isinstance(message, Mapping):
        return "invalid type: expected struct Message"
    missing = _missing(message, ("id", "channel", "sender_type", "content", "timestamp"))
    if missing:
        return f"missing field `{missing}`"
    if message["sender_type"] not in {"AGENT", "HUMAN"}:
        return f"sender_type: unknown variant `{message['sender_type']}`"
    try:
        uuid.UUID(message["id"])
        moment = _parsed(str(message["timestamp"]))
    except ValueError:
        return "invalid id or timestamp"
    if moment.tzinfo is None:
        return "timestamp: premature end of input"
    return _fault_of_content(message["content"], generation)


def _fault_of_content(content: Any, generation: Generation) -> str | None:
    name = content.get("type") if isinstance(content, Mapping) else None
    unknown = "decision" if generation == "question" else "question"
    if name not in _FIELDS or name == unknown:
        return f"content: unknown variant `{name}`, expected one of `decision`, `authorization`"
    missing = _missing(content, _FIELDS[name])
    if missing:
        return f"content: missing field `{missing}`"
    seconds = content.get("timeout_seconds", 0)
    if type(seconds) is not int or not 0 <= seconds < 2**32:
        return "content: timeout_seconds: invalid type, expected u32"
    if name == "response" and content["response_type"] not in _ANSWERS:
        return f"content: response_type: unknown variant `{content['response_type']}`"
    return None


def _missing(data: Mapping[str, Any], names: Iterable[str]) -> str | None:
    return next((name for name in names if data.get(name) is None), None)


def _chosen(original: JsonObject, answer: str) -> JsonObject | None:
    options = original["content"]["options"]
    ids = [option["id"] for option in options]
    labels = [str(option["label"]).lower() for option in options]
    if answer in ids:
        index = ids.index(answer)
    elif answer.lower() in labels:
        index = labels.index(answer.lower())
    elif answer.isdigit() and 1 <= int(answer) <= len(options):
        index = int(answer) - 1
    else:
        return None
    chosen = {"index": index, "label": options[index]["label"], "option_id": ids[index]}
    return _response(original, ids[index], "text", chosen)


def _response(
    original: JsonObject,
    answer: str | None,
    response_type: str,
    metadata: JsonObject | None = None,
) -> JsonObject:
    response: JsonObject = {
        "id": str(uuid.uuid4()),
        "channel": original["channel"],
        "sender_type": "HUMAN",
        "content": {"type": "response", "answer": answer, "response_type": response_type},
        "timestamp": moment_now(),
        "correlation_id": original["id"],
    }
    return response if metadata is None else {**response, "metadata": metadata}


def _parsed(timestamp: str) -> datetime:
    # Before Python 3.11 fromisoformat knows neither "Z" nor nine digits.
    text = re.sub(r"(\.\d{6})\d+", r"\1", timestamp)
    return datetime.fromisoformat(re.sub("Z$", "+00:00", text))


def moment_now() -> str:
    """Return the time as the server writes it."""
    return _moment(datetime.now(timezone.utc))


def _moment(moment: datetime) -> str:
    # Nine digits, as the server writes them.
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
