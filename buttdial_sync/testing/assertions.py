"""Assertions about what was sent; a failure lists what the server got instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from buttdial_sync.testing.evidence import Evidence
from buttdial_sync.testing.journal import ToolCall
from buttdial_sync.testing.toolbox import SEND_MESSAGE

_FIELDS = frozenset(name for name, value in vars(ToolCall).items() if isinstance(value, property))
_LONGEST_TEXT = 120
_SUMMARY = ("to", "channel", "body")
_WHATSAPP = "comms_whatsapp_action"

_Read = Callable[[ToolCall, str], object]


class Assertions(Evidence):
    """
    Assertions for tests. They are safe to call at any time, and change nothing.

    A wanted value is compared with ``==``; a compiled pattern is searched for.
    """

    def assert_sent(self, **fields: object) -> ToolCall:
        """
        Check that a message was sent that has these fields, whatever else it has.

        Args:
            **fields: What it has to have, by the names of `ToolCall`: ``to``, ``body``,
                ``channel``, ``media_url``, ``thread_id``, …

        Returns:
            The message; of several the first.

        Raises:
            AssertionError: There is none. What the server refused was not sent.
            TypeError: A message has no such field.
        """
        __tracebackhide__ = True
        return self._sent(fields)[0]

    def assert_sent_once(self, **fields: object) -> ToolCall:
        """
        Check that exactly one message was sent that has these fields; see `assert_sent`.

        A repetition with the same idempotency key is no second message.
        """
        __tracebackhide__ = True
        found = self._sent(fields)
        if len(found) > 1:
            raise AssertionError(
                f"{_described('message', fields)} was sent {len(found)} times\n{self._got(fields)}"
            )
        return found[0]

    def assert_nothing_sent(self) -> None:
        """
        Check that no message was even tried: not one by any client, of WhatsApp's kinds included.

        Raises:
            AssertionError: There was one, maybe refused.
        """
        __tracebackhide__ = True
        if any(map(_is_message, self.calls)):
            raise AssertionError(f"no message was to be sent\n{self._got({})}")

    def assert_called(self, tool: str, **args: object) -> ToolCall:
        """
        Check that a tool was called with these arguments, whatever else it got.

        Args:
            tool: The tool's wire name.
            **args: Arguments with their wire names.

        Returns:
            The call; of several the first.

        Raises:
            AssertionError: There is none.
        """
        __tracebackhide__ = True
        calls = self.calls
        for call in calls:
            if call.tool == tool and not _differing(call, args, _argument):
                return call
        got = [f"{call.tool} {_shown(call, [*args], _argument)}".rstrip() for call in calls]
        raise AssertionError(f"{_described(tool, args)} was not called\n{_listed(got)}")

    def _sent(self, fields: Mapping[str, object]) -> list[ToolCall]:
        __tracebackhide__ = True
        unknown = fields.keys() - _FIELDS
        if unknown:
            names, known = ", ".join(sorted(unknown)), ", ".join(sorted(_FIELDS))
            raise TypeError(f"a message has no {names}; it has {known}")
        found = [each for each in self.delivered if not _differing(each, fields, _field)]
        if not found:
            raise AssertionError(
                f"{_described('message', fields)} was not sent\n{self._got(fields)}"
            )
        return found

    def _got(self, fields: Mapping[str, object]) -> str:
        delivered = {id(each) for each in self.delivered}
        return _listed(
            [
                _line(call, fields, is_delivered=id(call) in delivered)
                for call in self.calls
                if _is_message(call)
            ]
        )


def _is_message(call: ToolCall) -> bool:
    if call.tool == _WHATSAPP:
        return str(call.args.get("action")).startswith("send_")
    return call.tool == SEND_MESSAGE


def _field(call: ToolCall, name: str) -> object:
    return getattr(call, name)


def _argument(call: ToolCall, name: str) -> object:
    return call.args.get(name)


def _differing(call: ToolCall, wanted: Mapping[str, object], read: _Read) -> list[str]:
    return [name for name, value in wanted.items() if not _fits(value, read(call, name))]


def _fits(wanted: Any, value: object) -> bool:
    if isinstance(wanted, re.Pattern):
        return isinstance(value, str) and wanted.search(value) is not None
    return bool(wanted == value)


def _line(call: ToolCall, fields: Mapping[str, object], *, is_delivered: bool) -> str:
    line = _shown(call, list(dict.fromkeys((*_SUMMARY, *fields))), _field)
    if call.tool != SEND_MESSAGE:
        return f"{line} (by {call.tool}, {call.args.get('action')})"
    notes = [] if is_delivered else ["refused or repeated"]
    differing = _differing(call, fields, _field)
    if differing:
        notes.append(f"other {', '.join(differing)}")
    return f"{line} ({'; '.join(notes)})" if notes else line


def _shown(call: ToolCall, names: Sequence[str], read: _Read) -> str:
    values = ((name, read(call, name)) for name in names)
    return " ".join(f"{name}={_short(value)}" for name, value in values if value not in (None, ()))


def _short(value: object) -> str:
    text = repr(value.pattern) if isinstance(value, re.Pattern) else repr(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _described(what: str, wanted: Mapping[str, object]) -> str:
    fields = " ".join(f"{name}={_short(value)}" for name, value in wanted.items())
    return f"{what} {fields}".rstrip()


def _listed(lines: list[str]) -> str:
    if not lines:
        return "The server got nothing."
    numbered = (f"  {number}. {line}" for number, line in enumerate(lines, 1))
    return "\n".join((f"The server got {len(lines)}:", *numbered))
