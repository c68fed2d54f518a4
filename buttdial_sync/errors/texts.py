"""What the texts of a server mean that answers without codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from buttdial_sync.errors.tree import (
    AgentSuspended,
    AuthLockedOutError,
    ButtDialError,
    ChannelError,
    ComplianceError,
    InvalidRequestError,
    NoChannelAssigned,
    NotProvisioned,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    ToolNotAvailable,
)


class Meaning(NamedTuple):
    """
    What a text means.

    Attributes:
        kind: The class to raise.
        code: The library's code for it; None for that of the class.
        remedy: The advice; None for that of the class.
        channel: The channel that the text names, or None.
    """

    kind: type[ButtDialError]
    code: str | None = None
    remedy: str | None = None
    channel: str | None = None


INVALID_REQUEST = Meaning(InvalidRequestError)

_RECIPIENT = Meaning(
    InvalidRequestError,
    "INVALID_RECIPIENT",
    "Give the recipient in E.164 form, as in +14155550123, or as an email address.",
)
_NO_AGENT = Meaning(
    InvalidRequestError,
    "AGENT_ID_REQUIRED",
    "This tool needs an agent: use an agent's own token, or give agent_id.",
)
_NO_SUBJECT = Meaning(
    InvalidRequestError, "SUBJECT_REQUIRED", "Give a subject: an email needs one on this server."
)
_NO_PERMISSION = Meaning(PermissionDeniedError)
_CONTENT = Meaning(
    ComplianceError, "CONTENT_REFUSED", "Change the text: the server's filter will refuse it again."
)
_LIKE_AN_ATTACK = Meaning(
    InvalidRequestError,
    "CONTENT_REFUSED",
    "Change the value that the error names: the server's filter takes it for an attack.",
)
_DO_NOT_CONTACT = Meaning(
    ComplianceError,
    "DO_NOT_CONTACT",
    "Do not write to this recipient again, and remove them from your lists.",
)
_CALLING_HOURS = Meaning(
    ComplianceError,
    "CALLING_HOURS",
    "Call again between 8:00 and 21:00 at the recipient's. If the server has the wrong place, "
    "give recipient_timezone.",
)
_CONSENT = Meaning(
    ComplianceError,
    "CONSENT_REQUIRED",
    "Check the recipient's consent (client.consent.check), and record it once you have it.",
)
_BLOCKED = Meaning(
    ChannelError,
    "CHANNEL_BLOCKED",
    "Use another channel, or have the operator unblock this one for the agent.",
)
_QUOTA = Meaning(
    RateLimitError,
    "QUOTA_EXCEEDED",
    "Have the agent's limits raised, or wait until the time that the error names.",
)

# A quotation of more than one word, JSON, and an address: they may be the user's own, so that their
# words do not count. A single word in quotes is the name of a field or an agent.
# What is cut off has no end: errors/answers.py keeps texts short.
_QUOTED = re.compile(r'("\w*")|"[^"]*(?:"|$)|“[^”]*(?:”|$)|\{.*\}|\{.*$|\bhttps?://\S+', re.DOTALL)

# The order matters: the first match counts. An invalid request comes first, because its text quotes
# the tool's name and the arguments, and so any words.
_MEANINGS: tuple[tuple[re.Pattern[str], Meaning], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), meaning)
    for pattern, meaning in (
        (
            r"^(?:MCP error -32602: )?(?:unknown tool\b|tool \S+ (?:not found|disabled))",
            Meaning(ToolNotAvailable),
        ),
        (
            r"^(?:MCP error )?-32602\b|^input validation error\b|^invalid message: ",
            INVALID_REQUEST,
        ),
        (r"too many failed attempts", Meaning(AuthLockedOutError)),
        (r"^rate limit exceeded: (?:per-day|daily-spend|monthly-spend)\b", _QUOTA),
        (r"rate limit|too many requests", Meaning(RateLimitError)),
        (r"agent ?id is required|^missing agent ?id", _NO_AGENT),
        (r"invalid[ _](?:recipient|phone|number|email address)", _RECIPIENT),
        (r"^invalid input for \"(?:to|target)\"|'to' number \S+ is not a valid", _RECIPIENT),
        (r"^invalid input for \"", _LIKE_AN_ATTACK),
        (r"^subject is required", _NO_SUBJECT),
        (r"^auth error|^authentication (?:required|failed)", _NO_PERMISSION),
        (r"admin access required|cannot access agent \"|not belong to your org", _NO_PERMISSION),
        (r"do[- ]not[- ]contact|opted[- ]out|unsubscribed recipient", _DO_NOT_CONTACT),
        (r"^compliance.* not allowed at|\bTCPA\b|(?:calling|quiet) hours", _CALLING_HOURS),
        (r"^compliance.* (?:content|language)\b", _CONTENT),
        (r"\bno (?:active |valid )?consent\b|\bconsent (?:is )?(?:required|missing)", _CONSENT),
        (r"^compliance", Meaning(ComplianceError)),
        (r"agent \"[^\"]*\" is not active", Meaning(AgentSuspended)),
        (r"is blocked on (?P<channel>\w+)", _BLOCKED),
        (
            r"has no (?:phone number|(?P<channel>email|whatsapp|line) (?:address|sender|channel))",
            Meaning(NoChannelAssigned),
        ),
        (r"not provisioned|^agent \"[^\"]*\" not found", Meaning(NotProvisioned)),
        (r"^PayloadTooLargeError|request entity too large", Meaning(PayloadTooLargeError)),
    )
)

MEANING_OF_CODE: Mapping[str, Meaning] = {
    meaning.code or meaning.kind.default_code or meaning.kind.server_codes[0]: meaning
    for _, meaning in _MEANINGS
}
"""The codes that the library gives to texts."""


def without_quotations(text: str) -> str:
    """Return a server's text without what it quotes: a message may say anything."""
    return _QUOTED.sub(lambda found: found[1] or '""', text)


def meaning_of(text: str) -> Meaning | None:
    """Return what a text means, or None if nobody knows. What it quotes does not count."""
    own = without_quotations(text)
    for words, meaning in _MEANINGS:
        found = words.search(own)
        if found:
            channel = found.groupdict().get("channel")
            return meaning._replace(channel=channel and channel.lower())
    return None
