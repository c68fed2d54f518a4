"""
What a person's response means for a prompt. Pure functions: this is the rule that keeps a no a no.

A response is the prompt's own if its ``correlation_id`` is the prompt's id. Everything that the
caller learns from the wire about a prompt goes through :func:`reply_of`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

from buttdial_sync.ailoop.messages import (
    RESPONSE_TYPES,
    Message,
    Option,
    ResponseContent,
    message_of,
)
from buttdial_sync.errors import ProtocolError

AnswerStatus = Literal["answered", "timed_out", "skipped", "lost"]
AuthorizationReason = Literal[
    "approved",
    "denied",
    "timed_out",
    "skipped",
    "text",
    "malformed",
    "forged",
    "unconfirmed",
    "lost",
]
PromptKind = Literal["decision", "question", "authorization", "navigate"]
Verdict = Literal[
    "chosen",
    "text",
    "invalid",
    "approved",
    "denied",
    "timed_out",
    "skipped",
    "malformed",
    "forged",
    "lost",
]

_YES = frozenset({"yes", "y", "ok"})
_NO = frozenset({"no", "n", "deny", "denied"})


@attrs.frozen(kw_only=True)
class Answer:
    """
    What became of a question.

    It is neither true nor false: ``if client.ask(…)`` would take a "no" for a yes.

    Attributes:
        status: ``"answered"``; ``"timed_out"`` (nobody answered in time); ``"skipped"`` (the person
            put it off, or gave an empty answer); ``"lost"`` (the connection broke or the server
            restarted, and what the person answered cannot be known).
        message_id: The prompt's id.
        option_id: The chosen option's id; None for free text, and unless answered.
        label: The chosen option's label, or None.
        index: Its place among the options, from 0, or None.
        text: What the person typed, as it came; for a status other than ``"answered"`` the last
            answer that was not among the choices. None for a choice made with a button.
    """

    status: AnswerStatus
    message_id: str
    option_id: str | None = None
    label: str | None = None
    index: int | None = None
    text: str | None = None

    @property
    def answered(self) -> bool:
        """Whether there is an answer."""
        return self.status == "answered"

    def __bool__(self) -> bool:
        raise TypeError("an Answer is neither yes nor no: look at option_id, or use authorize()")


@attrs.frozen(kw_only=True)
class Authorization:
    """
    What became of a request for approval. True only if a person approved this very prompt.

    Attributes:
        approved: Whether a person approved it.
        reason: ``"approved"``; or why it is denied: ``"denied"`` (by the person, or by the server
            when its time was over), ``"timed_out"``, ``"skipped"``, ``"text"`` (something else than
            yes or no was typed), ``"malformed"`` or ``"forged"`` (not a response as the server
            makes them), ``"unconfirmed"`` (``confirm_settled``, and the server still waits for an
            answer), ``"lost"`` (the connection broke, or the server restarted).
        message_id: The prompt's id.
        text: What the person typed, or None.
    """

    approved: bool
    reason: AuthorizationReason
    message_id: str
    text: str | None = None

    def __bool__(self) -> bool:
        return self.approved


@attrs.frozen(kw_only=True)
class Prompt:
    """
    What was asked.

    Attributes:
        id: The prompt's id.
        channel: Its channel.
        kind: What it asks for.
        options: The choices; empty for free text.
    """

    id: str
    channel: str
    kind: PromptKind
    options: Sequence[Option] = ()


@attrs.frozen(kw_only=True)
class Reply:
    """
    What one response says about a prompt.

    Attributes:
        verdict: What it says.
        ends: Whether the prompt is over with it.
        index: The chosen option, or None.
        text: What was typed, or None.
    """

    verdict: Verdict
    ends: bool = True
    index: int | None = None
    text: str | None = None


LOST = Reply(verdict="lost", ends=False)
TIMED_OUT = Reply(verdict="timed_out")
_SKIPPED = Reply(verdict="skipped", ends=False)
_EMPTY = Reply(verdict="skipped")


def reply_of(prompt: Prompt, frame: Mapping[str, Any]) -> Reply | None:
    """
    Read a message for a prompt.

    Args:
        prompt: What was asked.
        frame: Any message of the server, as decoded from JSON.

    Returns:
        What it says, or None if it says nothing about this prompt. For an authorization every
        response of its own but a skip ends it, so that nothing after a doubtful one can approve it.
    """
    if frame.get("correlation_id") != prompt.id or not _is_response(frame):
        return None
    message = _wellformed(frame)
    if prompt.kind == "authorization":
        return _authorization_reply(prompt, message)
    if message is None or not _is_from_a_person(prompt, message):
        return None
    return _choice_reply(prompt, message)


def answer_of(prompt: Prompt, reply: Reply) -> Answer:
    """Return what the caller of a question gets for a prompt's last reply."""
    status: AnswerStatus = "answered"
    if reply.verdict in {"timed_out", "invalid"}:
        status = "timed_out"
    elif reply.verdict == "skipped":
        status = "skipped"
    elif reply.verdict == "lost":
        status = "lost"
    option = None if reply.index is None else prompt.options[reply.index]
    return Answer(
        status=status,
        message_id=prompt.id,
        option_id=option.id if option else None,
        label=option.label if option else None,
        index=reply.index,
        text=reply.text,
    )


def authorization_of(prompt: Prompt, reply: Reply) -> Authorization:
    """Return what the caller of an authorization gets for a prompt's last reply."""
    verdict = reply.verdict
    reason: AuthorizationReason = "malformed" if verdict in {"chosen", "invalid"} else verdict  # type: ignore[assignment]
    return Authorization(
        approved=verdict == "approved" and prompt.kind == "authorization",
        reason=reason,
        message_id=prompt.id,
        text=reply.text,
    )


def option_index(options: Sequence[Option], answer: str) -> int | None:
    """Find the option that an answer means: its id, its label in any case, or its place from 1."""
    text = answer.strip()
    for index, option in enumerate(options):
        if option.id in {answer, text}:
            return index
    for index, option in enumerate(options):
        if option.label.strip().casefold() == text.casefold():
            return index
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= len(options):
        return int(text[:9]) - 1
    return None


def _is_response(frame: Mapping[str, Any]) -> bool:
    content = frame.get("content")
    return isinstance(content, Mapping) and content.get("type") == "response"


def _wellformed(frame: Mapping[str, Any]) -> Message | None:
    try:
        message = message_of(frame)
    except ProtocolError:
        return None
    content = message.content
    known = isinstance(content, ResponseContent) and content.response_type in RESPONSE_TYPES
    return message if known else None


def _is_from_a_person(prompt: Prompt, message: Message) -> bool:
    # Another agent can say that it is a person; this finds only those that do not.
    return (
        message.sender_type == "HUMAN"
        and message.channel == prompt.channel
        and message.id != prompt.id
    )


def _authorization_reply(prompt: Prompt, message: Message | None) -> Reply:
    if message is None or not isinstance(message.content, ResponseContent):
        return Reply(verdict="malformed")
    if not _is_from_a_person(prompt, message):
        return Reply(verdict="forged")
    content = message.content
    if content.response_type == "authorization_approved":
        return Reply(verdict="approved", text=content.answer)
    if content.response_type == "cancelled":
        return _SKIPPED
    if content.response_type == "timeout":
        return TIMED_OUT
    verdict: Verdict = "denied" if content.response_type == "authorization_denied" else "text"
    return Reply(verdict=verdict, text=content.answer)


def _choice_reply(prompt: Prompt, message: Message) -> Reply:
    content = message.content
    assert isinstance(content, ResponseContent)  # noqa: S101 - reply_of has looked
    if content.response_type == "timeout":
        return TIMED_OUT
    if content.response_type == "cancelled":
        return _SKIPPED
    if content.response_type == "text":
        return _text_reply(prompt, content.answer, message.metadata)
    # Telegram's yes and no, which it sends for a decision too.
    yes = content.response_type == "authorization_approved"
    words = _YES if yes else _NO
    meant = [
        index
        for index, option in enumerate(prompt.options)
        if {option.id.casefold(), option.label.strip().casefold()} & words
    ]
    text = content.answer if content.answer is not None else ("yes" if yes else "no")
    if len(meant) == 1:
        return Reply(verdict="chosen", index=meant[0], text=text)
    return Reply(verdict="text", text=text)


def _text_reply(prompt: Prompt, answer: str | None, metadata: Mapping[str, Any]) -> Reply:
    ids = [option.id for option in prompt.options]
    if metadata.get("option_id") in ids:
        return Reply(verdict="chosen", index=ids.index(metadata["option_id"]), text=answer)
    if answer is None:
        return _EMPTY
    if not prompt.options:
        return Reply(verdict="text", text=answer)
    index = option_index(prompt.options, answer)
    if index is None:
        return Reply(verdict="invalid", ends=False, text=answer)
    return Reply(verdict="chosen", index=index, text=answer)
