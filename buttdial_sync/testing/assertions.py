"""
Assertions about what was sent; a failure lists what the server got instead.

A wanted value is compared with ``==``; a compiled pattern is searched for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from buttdial_sync.testing.request_log import RequestLog, TextArgument, ToolCall
from buttdial_sync.testing.tools import SEND_MESSAGE

_FIELDS = frozenset(
    name for name, value in vars(ToolCall).items() if isinstance(value, (property, TextArgument))
)
_LONGEST_TEXT = 120
_SUMMARY = ("to", "channel", "body")
_WHATSAPP = "comms_whatsapp_action"

_Read = Callable[[ToolCall, str], object]


def find_sent(log: RequestLog, fields: Mapping[str, object]) -> list[ToolCall]:
    """
    Find the messages that were sent and have these fields.

    Raises:
        AssertionError: There is none. What the server refused was not sent.
        TypeError: A message does not have such a field.
    """
    __tracebackhide__ = True
    unknown = fields.keys() - _FIELDS
    if unknown:
        names, known = ", ".join(sorted(unknown)), ", ".join(sorted(_FIELDS))
        raise TypeError(f"a message has no {names}; it has {known}")
    found = [each for each in log.delivered if not _differing(each, fields, _field)]
    if not found:
        raise AssertionError(f"{_described('message', fields)} was not sent\n{_got(log, fields)}")
    return found


def find_sent_once(log: RequestLog, fields: Mapping[str, object]) -> ToolCall:
    """Find the one message that was sent and has these fields; see `find_sent`."""
    __tracebackhide__ = True
    found = find_sent(log, fields)
    if len(found) > 1:
        what = _described("message", fields)
        raise AssertionError(f"{what} was sent {len(found)} times\n{_got(log, fields)}")
    return found[0]


def check_nothing_sent(log: RequestLog) -> None:
    """Raise an AssertionError if a message was tried."""
    __tracebackhide__ = True
    if any(map(_is_message, log.calls)):
        raise AssertionError(
            f"a message was sent or tried, although none was expected\n{_got(log, {})}"
        )


def find_call(log: RequestLog, tool: str, args: Mapping[str, object]) -> ToolCall:
    """Find the first call of a tool with these arguments, or raise an AssertionError."""
    __tracebackhide__ = True
    for call in log.calls:
        if call.tool == tool and not _differing(call, args, _argument):
            return call
    got = [f"{call.tool} {_shown(call, [*args], _argument)}".rstrip() for call in log.calls]
    raise AssertionError(f"{_described(tool, args)} was not called\n{_listed(got)}")


def _got(log: RequestLog, fields: Mapping[str, object]) -> str:
    delivered = set(map(id, log.delivered))
    messages = filter(_is_message, log.calls)
    return _listed([_line(each, fields, is_delivered=id(each) in delivered) for each in messages])


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
