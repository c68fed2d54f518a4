"""
Assertions about what was sent; a failure lists what the server got instead, the nearest as a diff.

A wanted value is compared with ``==``; a compiled pattern is searched for. A list and a tuple are
alike, and so are a datetime and its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import SequenceMatcher, ndiff
from typing import Any

from buttdial_sync.errors.moments import parse_moment
from buttdial_sync.errors.scrubbing import masked_items
from buttdial_sync.testing.request_log import RequestLog, TextArgument, ToolCall
from buttdial_sync.testing.tools import SEND_MESSAGE

_FIELDS = frozenset(
    name for name, value in vars(ToolCall).items() if isinstance(value, (property, TextArgument))
)
_LONGEST_TEXT = 120
_LONGEST_COMPARED = 1000
_LISTED = 5
_SUMMARY = ("to", "channel", "body")
_WHATSAPP = "comms_whatsapp_action"
_WHATSAPP_MESSAGES = frozenset({"forward", "post_status"})
_BRIDGE = "comms_bridge_call"
_REACHING_PEOPLE = frozenset(
    {
        SEND_MESSAGE,
        "comms_send_voice_message",
        "comms_send_otp",
        "comms_make_call",
        "comms_call_on_behalf",
    }
)

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
        what = _described("message", fields)
        raise AssertionError(f"{what} was not sent\n{_got(log, fields)}{_diff(log, fields)}")
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


def find_call(
    log: RequestLog, tool: str, args: Mapping[str, object], known: frozenset[str] | None
) -> ToolCall:
    """
    Find the first call of a tool with these arguments.

    Raises:
        AssertionError: There is none.
        TypeError: An argument is neither one of the known ones nor in a call.
    """
    __tracebackhide__ = True
    if known is not None:
        given = {key for call in log.calls if call.tool == tool for key in call.args}
        unknown = args.keys() - known - given
        if unknown:
            names = ", ".join(sorted(unknown))
            raise TypeError(f"{tool} has no {names}; it has {', '.join(sorted(known))}")
    for call in log.calls:
        if call.tool == tool and not _differing(call, args, _argument):
            return call
    lines = [f"{call.tool} {_shown(call, [*args], _argument)}".rstrip() for call in log.calls]
    near = sorted(range(len(lines)), key=lambda at: _distance_of_call(log.calls[at], tool, args))
    raise AssertionError(f"{_described(tool, args)} was not called\n{_listed(lines, near)}")


def _distance_of_call(call: ToolCall, tool: str, args: Mapping[str, object]) -> tuple[bool, int]:
    return call.tool != tool, len(_differing(call, args, _argument))


def _got(log: RequestLog, fields: Mapping[str, object]) -> str:
    delivered = set(map(id, log.delivered))
    messages = list(filter(_is_message, log.calls))
    lines = [_line(each, fields, is_delivered=id(each) in delivered) for each in messages]
    near = sorted(range(len(lines)), key=lambda at: _distance(messages[at], fields))
    return _listed(lines, near)


def _diff(log: RequestLog, fields: Mapping[str, object]) -> str:
    """Return how the nearest message that was sent differs from the wanted one."""
    nearest = min(log.delivered, key=lambda each: _distance(each, fields), default=None)
    if nearest is None:
        return ""
    lines = ["", "The nearest one, against what was wanted (-):"]
    for name in _differing(nearest, fields, _field):
        lines += (f"  {name}", *_diff_of_values(fields[name], _field(nearest, name)))
    return "\n".join(lines)


def _diff_of_values(wanted: object, got: object) -> Iterator[str]:
    texts = isinstance(wanted, str) and isinstance(got, str)
    if texts and len(str(wanted)) + len(str(got)) <= _LONGEST_COMPARED:
        compared = ndiff(str(wanted).splitlines(), str(got).splitlines())
        yield from (f"    {line.rstrip()}" for line in compared)
    else:
        yield f"    - {_short(wanted)}"
        yield f"    + {_short(got)}"


def _distance(call: ToolCall, fields: Mapping[str, object]) -> tuple[int, float]:
    """Return in how many fields a message differs from the wanted one, and how much."""
    differing = _differing(call, fields, _field)
    likeness = sum(_likeness(fields[name], _field(call, name)) for name in differing)
    return len(differing), -likeness


def _likeness(wanted: object, got: object) -> float:
    if not (isinstance(wanted, str) and isinstance(got, str)):
        return 0.0
    texts = wanted[:_LONGEST_COMPARED], got[:_LONGEST_COMPARED]
    return SequenceMatcher(None, *texts, autojunk=False).quick_ratio()


def _is_message(call: ToolCall) -> bool:
    """Whether a call is one that people notice. A message to another agent is not."""
    action = str(call.args.get("action"))
    if call.tool == _WHATSAPP:
        return action.startswith("send_") or action in _WHATSAPP_MESSAGES
    if call.tool == _BRIDGE:
        return action == "call"
    return call.tool in _REACHING_PEOPLE


def _field(call: ToolCall, name: str) -> object:
    return getattr(call, name)


def _argument(call: ToolCall, name: str) -> object:
    return call.args.get(name)


def _differing(call: ToolCall, wanted: Mapping[str, object], read: _Read) -> list[str]:
    return [name for name, value in wanted.items() if not _fits(value, read(call, name))]


def _fits(wanted: Any, value: object) -> bool:
    if isinstance(wanted, re.Pattern):
        return isinstance(value, str) and wanted.search(value) is not None
    if isinstance(wanted, datetime) and isinstance(value, str):
        return _is_moment(value, wanted)
    if isinstance(wanted, list | tuple) and isinstance(value, list | tuple):
        return [*wanted] == [*value]
    return bool(wanted == value)


def _is_moment(text: str, wanted: datetime) -> bool:
    try:
        return parse_moment(text) == wanted
    except ValueError:
        return False


def _line(call: ToolCall, fields: Mapping[str, object], *, is_delivered: bool) -> str:
    line = _shown(call, list(dict.fromkeys((*_SUMMARY, *fields))), _field)
    if call.tool != SEND_MESSAGE:
        action = call.args.get("action")
        return f"{line} (by {call.tool}{f', {action}' if action else ''})"
    notes = [] if is_delivered else ["refused, lost or repeated"]
    differing = _differing(call, fields, _field)
    if differing:
        notes.append(f"other {', '.join(differing)}")
    return f"{line} ({'; '.join(notes)})" if notes else line


def _shown(call: ToolCall, names: Sequence[str], read: _Read) -> str:
    values = masked_items({name: read(call, name) for name in names}).items()
    return " ".join(f"{name}={_short(value)}" for name, value in values if value not in (None, ()))


def _short(value: object) -> str:
    text = repr(value.pattern) if isinstance(value, re.Pattern) else repr(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def _described(what: str, wanted: Mapping[str, object]) -> str:
    fields = " ".join(f"{name}={_short(value)}" for name, value in masked_items(wanted).items())
    return f"{what} {fields}".rstrip()


def _listed(lines: Sequence[str], nearest: Sequence[int]) -> str:
    if not lines:
        return "The server got nothing."
    numbered = (f"  {at + 1}. {lines[at]}" for at in sorted(nearest[:_LISTED]))
    more = f", here the nearest {_LISTED}" if len(lines) > _LISTED else ""
    return "\n".join((f"The server got {len(lines)}{more}:", *numbered))
