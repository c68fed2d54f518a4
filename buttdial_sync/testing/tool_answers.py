"""The answers of tools: a programmed answer, or a small default."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeAlias
from zlib import crc32

from buttdial_sync.testing.dialects import Dialect
from buttdial_sync.testing.workspace import OTP


class ToolFailure(Exception):  # noqa: N818 - a tool's failure is an answer, not a mistake of ours
    """
    A failure that a tool reports: an answer with ``isError``.

    Give it to ``on_tool`` as the answer, or raise or return it in a callable.

    Args:
        error: The text, or an object with the details.
        code: The error's code, as the hosted service adds it.
        **extra: Further keys of the answer, with their wire names.
    """

    def __init__(self, error: object, code: str | None = None, **extra: Any) -> None:
        super().__init__(error)
        self.error = error
        self.code = code
        self.extra = extra

    def as_dict(self) -> dict[str, Any]:
        """The answer's JSON object."""
        code = {} if self.code is None else {"code": self.code}
        return {"error": self.error, **code, **self.extra}


Args: TypeAlias = Mapping[str, Any]
Content: TypeAlias = dict[str, Any] | str
ToolAnswer: TypeAlias = Content | ToolFailure | Callable[[dict[str, Any]], Content | ToolFailure]


def text_result(text: str) -> dict[str, Any]:
    """A ``tools/call`` result that holds a text."""
    return {"content": [{"type": "text", "text": text}]}


def error_result(text: str) -> dict[str, Any]:
    """A ``tools/call`` result that holds a failure's text."""
    return {**text_result(text), "isError": True}


def as_result(dialect: Dialect, content: Content | ToolFailure) -> dict[str, Any]:
    """Make a ``tools/call`` result."""
    if isinstance(content, ToolFailure):
        return error_result(dialect.text(content.as_dict()))
    return text_result(content if isinstance(content, str) else dialect.text(content))


def evaluate(answer: ToolAnswer, args: dict[str, Any]) -> Content | ToolFailure:
    """Find out what an answer says to these arguments."""
    if isinstance(answer, ToolFailure) or not callable(answer):
        return answer
    try:
        return answer(args)
    except ToolFailure as failure:
        return failure


class NewToken(Enum):
    """Stands in a default answer for a token that is made for the call."""

    AGENT = "agent"
    TEAM = "team"
    ROTATED = "rotated"


_PHONE = "+15550000000"
_SINCE = "2026-01-02T03:04:05Z"
_DONE: Content = {"success": True}


def _id(prefix: str, args: Args) -> str:
    """Make an id of a call's arguments: without a state, only they tell two calls apart."""
    return f"{prefix}{crc32(json.dumps(args, sort_keys=True).encode()):08x}"


def _audio(args: Args) -> str:
    return f"https://media.butt-dial.test/{_id('speech-', args)}.{args.get('format', 'ogg')}"


def _call(args: Args, **more: Any) -> dict[str, Any]:
    to = str(args.get("to", args.get("target", "")))
    call = {"callSid": "CA00000000000000000000000000000001", "status": "initiated"}
    return {**call, "from": _PHONE, "to": to, **more}


def _made(prefix: str, key: str = "id", **more: Any) -> ToolAnswer:
    """Answer that something was made: its id, then what was said about it."""
    return lambda args: {key: _id(prefix, args), **args, **more}


def _with_preview(answer: ToolAnswer = _DONE) -> ToolAnswer:
    """Answer a call that has ``confirm``; without it nothing is done."""

    def confirmed(args: dict[str, Any]) -> Content | ToolFailure:
        if args.get("confirm", True):
            return evaluate(answer, args)
        return {"preview": True, "message": "Nothing was changed. Call with confirm: true."}

    return confirmed


def _by(key: str, answers: Mapping[str, ToolAnswer]) -> ToolAnswer:
    """Answer by the value of one argument."""
    return lambda args: evaluate(answers.get(str(args.get(key)), _DONE), args)


def _whatsapp(args: dict[str, Any]) -> Content:
    action = str(args.get("action"))
    if action.startswith("send_"):
        return {"messageId": _id("wamid.", args)}
    return {"success": True, "action": action}


def _verified(args: dict[str, Any]) -> Content:
    return {"valid": True} if args["code"] == OTP else {"valid": False, "reason": "wrong code"}


def _team(args: dict[str, Any]) -> Content:
    team = {"id": _id("team-", args), "name": args["name"], "slug": args["slug"]}
    return {"team": team, "adminToken": NewToken.TEAM}


def _onboarded(args: dict[str, Any]) -> Content:
    agent_id = args.get("agentId") or _id("agent-", args)
    wanted = [name for name, is_wanted in args["capabilities"].items() if is_wanted]
    return {
        "agentId": agent_id,
        "token": NewToken.AGENT,
        "channels": {name: {"status": "active"} for name in wanted},
        "emailSetup": None,
        "webhookUrls": {},
        "connectionInstructions": {"sse": "/sse"},
    }


COSTS: Mapping[str, Any] = {
    "agentId": "agent-1",
    "providerCost": 0.79,
    "billingCost": 0.95,
    "byChannel": {"sms": {"providerCost": 0.79, "billingCost": 0.95, "count": 100}},
}
"""What an agent cost, over REST and as a tool's answer."""
PROFILE: dict[str, Any] = {
    "agentId": "agent-1",
    "displayName": "Maya",
    "status": "active",
    "lifecycleState": "live",
    "channels": {"phone": _PHONE, "whatsapp": _PHONE, "email": "agent@butt-dial.test"},
    "callbackUrl": None,
    "createdAt": _SINCE,
    "provisionedAt": _SINCE,
}
"""Who an agent is, over REST and as a tool's answer."""

DEFAULT_ANSWERS: Mapping[str, ToolAnswer] = {
    "comms_ping": {"status": "ok"},
    "comms_bridge_call": _by(
        "action",
        {"list": {"bridges": []}, "setup": _made("bridge-", "bridgeId"), "call": _call},
    ),
    "comms_call_on_behalf": lambda args: _call(args, sessionId="session-1"),
    "comms_check_consent": lambda args: {**args, "status": "granted", "hasConsent": True},
    "comms_check_trust": lambda args: {**args, "trusted": True, "status": "trusted"},
    "comms_close_session": _with_preview(),
    "comms_create_organization": _team,
    "comms_create_session": _made("session-", "sessionId"),
    "comms_create_team": _team,
    "comms_deprovision_channels": _with_preview(),
    "comms_expand_agent_pool": _DONE,
    "comms_expand_client_pool": _with_preview(),
    "comms_find_agent": {"agents": [{"agentId": "agent-1", "displayName": "Maya"}]},
    "comms_generate_tts": lambda args: {"url": _audio(args), "format": args.get("format", "ogg")},
    "comms_get_billing_summary": lambda args: {**args, "agents": [COSTS]},
    "comms_get_contact_profile": lambda args: {**args, "name": "Sam", "lastSeen": _SINCE},
    "comms_get_group_members": lambda args: {**args, "members": [{"contact": "+15551112222"}]},
    "comms_get_income": lambda args: {**args, "income": 0, "currency": "USD"},
    "comms_get_me": PROFILE,
    "comms_get_message_status": lambda args: {**args, "status": "delivered"},
    "comms_get_session": lambda args: {**args, "status": "active", "messages": []},
    "comms_get_usage_dashboard": lambda args: {**args, "actions": {"sms": 100}},
    "comms_grant_trust": _DONE,
    "comms_list_available_numbers": {"numbers": [{"phoneNumber": _PHONE, "country": "US"}]},
    "comms_list_organizations": {"organizations": []},
    "comms_list_sessions": {"sessions": []},
    "comms_list_teams": {"teams": []},
    "comms_make_call": lambda args: _call(args, sessionId="session-1"),
    "comms_manage_channel": lambda args: {"success": True, "channel": args["channel"]},
    "comms_manage_inbound_filter": _by(
        "operation", {"list": {"filters": []}, "add": _made("filter-", "filterId")}
    ),
    "comms_message_agent": _made("message-", "messageId"),
    "comms_onboard_customer": _onboarded,
    "comms_record_consent": _DONE,
    "comms_register_provider": lambda args: {"success": True, "provider": args["provider"]},
    "comms_revoke_consent": _with_preview(),
    "comms_revoke_trust": _with_preview(),
    "comms_rotate_token": _with_preview({"token": NewToken.ROTATED}),
    "comms_send_otp": lambda args: {"success": True, "channel": args["channel"]},
    "comms_send_voice_message": lambda args: _call(
        args, audioUrl=_audio(args), durationSeconds=2.5
    ),
    "comms_set_agent_limits": _DONE,
    "comms_set_client_limits": _with_preview(),
    "comms_set_voice_callback": _DONE,
    "comms_subscribe_inbound": lambda args: {"subscribed": args["operation"] != "unsubscribe"},
    "comms_transfer_call": lambda args: {
        "logId": _id("transfer-", args),
        "callSid": args["callSid"],
        "transferredTo": args["to"],
        "status": "transferred",
    },
    "comms_update_profile": _DONE,
    "comms_validate_number": lambda args: {**args, "valid": True, "type": "mobile"},
    "comms_verify_otp": _verified,
    "comms_whatsapp_action": _whatsapp,
}
"""What each tool answers; one that is not here says ``{"ok": true}``. Add a row for another."""


def default_answer(tool: str) -> ToolAnswer:
    """What a tool answers that nobody programmed."""
    return DEFAULT_ANSWERS.get(tool, {"ok": True, "tool": tool})
