"""Prompts as they go over the wire. Checked here: over WebSocket the server tells no faults."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from buttdial_sync.ailoop.answers import Prompt
from buttdial_sync.ailoop.errors import AiloopConfigError, AiloopNotSupportedError
from buttdial_sync.ailoop.messages import Option, Recommendation, new_message
from buttdial_sync.ailoop.server import Api

# The server's own time for a prompt begins when it is shown, and ends a little after ours.
_LATER = 5
_MOST_SECONDS = 2**32 - 1

PromptAndFrame = tuple[Prompt, dict[str, Any]]


class Question:
    """
    A question with its choices.

    Args:
        question: The question.
        choices: The answers to choose from.
        options: The same with ids and details.
        recommendation: The option that is recommended.
        context: More about it.

    Raises:
        AiloopConfigError: It cannot be asked like this on any server.
    """

    def __init__(
        self,
        question: str,
        choices: Sequence[str] | None,
        options: Sequence[Option] | None,
        recommendation: Recommendation | str | None,
        context: str | None,
    ) -> None:
        _check_text(question, "question")
        self._question = question
        self._options = _options(choices, options)
        self._recommended = _recommended(recommendation, self._options)
        self._context = context

    def prompt(self, channel: str, timeout: float, api: Api) -> PromptAndFrame:
        """
        Return the prompt, and how a server of this generation wants to have it.

        Raises:
            AiloopNotSupportedError: It has no free text.
        """
        prompt = Prompt(
            id=str(uuid.uuid4()), channel=channel, kind=api, options=tuple(self._options)
        )
        content = self._decision(prompt.id) if api == "decision" else self._old_question()
        return prompt, _frame(prompt, {**content, "timeout_seconds": _server_seconds(timeout)})

    def _decision(self, decision_id: str) -> dict[str, Any]:
        if not self._options:
            raise AiloopNotSupportedError(
                "this server has no free text: give at least two choices",
                remediation="Servers up to 1.0.0 have it.",
            )
        recommended = self._recommended and _given(attrs.asdict(self._recommended))
        return {
            "type": "decision",
            "decision_id": decision_id,
            "summary": self._question,
            "options": [_given(attrs.asdict(option)) for option in self._options],
            **_given({"context_markdown": self._context, "recommendation": recommended}),
        }

    def _old_question(self) -> dict[str, Any]:
        # It has no fields for context and recommendation; the person should read them all the same.
        parts = [self._question, self._context]
        if self._recommended is not None:
            reason = self._recommended.rationale_markdown
            parts.append(
                f"Recommended: {self._recommended.option_id}" + (f" ({reason})" if reason else "")
            )
        labels = [option.label for option in self._options]
        text = "\n\n".join(part for part in parts if part is not None)
        return {"type": "question", "text": text, **({"choices": labels} if labels else {})}


def authorization_prompt(channel: str, action: str, context: Any, timeout: float) -> PromptAndFrame:
    """
    Return a prompt for an approval.

    Raises:
        AiloopConfigError: ``action`` is empty, or not text.
    """
    _check_text(action, "action")
    content = {
        "type": "authorization",
        "action": action,
        "timeout_seconds": _server_seconds(timeout),
        "context": context,
    }
    prompt = Prompt(id=str(uuid.uuid4()), channel=channel, kind="authorization")
    return prompt, _frame(prompt, content)


def navigation_prompt(channel: str, url: str) -> PromptAndFrame:
    """
    Return a prompt that asks to open an address.

    Raises:
        AiloopConfigError: ``url`` is empty, or not text.
    """
    _check_text(url, "url")
    prompt = Prompt(id=str(uuid.uuid4()), channel=channel, kind="navigate")
    return prompt, _frame(prompt, {"type": "navigate", "url": url})


def _check_text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise AiloopConfigError(f"{name} must be text")
    if not value.strip():
        raise AiloopConfigError(f"{name} is empty")


def _frame(prompt: Prompt, content: Mapping[str, Any]) -> dict[str, Any]:
    return new_message(prompt.id, prompt.channel, content)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _options(choices: Sequence[str] | None, options: Sequence[Option] | None) -> list[Option]:
    if choices is not None and options is not None:
        raise AiloopConfigError("give choices or options, not both")
    if isinstance(choices, str):
        raise AiloopConfigError("choices must be a list of texts, not one text")
    if choices is None and options is None:
        return []
    listed = list(options or ())
    if choices is not None:
        listed = [Option(id=choice, label=choice) for choice in choices]
    if not all(isinstance(option, Option) for option in listed):
        raise AiloopConfigError("options must be a list of Option")
    ids = [option.id for option in listed]
    if not all(isinstance(each, str) for each in ids):
        raise AiloopConfigError("choices and the ids of options must be texts")
    if len(ids) < 2:
        raise AiloopConfigError("give at least two choices")
    if len(set(ids)) != len(ids) or not all(each.strip() for each in ids):
        raise AiloopConfigError("the choices must differ, and none may be empty")
    return listed


def _recommended(
    recommendation: Recommendation | str | None, options: Sequence[Option]
) -> Recommendation | None:
    if isinstance(recommendation, str):
        recommendation = Recommendation(option_id=recommendation)
    if recommendation and recommendation.option_id not in {option.id for option in options}:
        raise AiloopConfigError("the recommendation is not one of the choices")
    return recommendation


def _server_seconds(timeout: float) -> int:
    return min(math.ceil(timeout) + _LATER, _MOST_SECONDS)
