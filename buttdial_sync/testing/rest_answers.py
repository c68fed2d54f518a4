"""
What the REST endpoints answer that have no state: a row for each.

Those of an agent come first, then those of a workspace that nothing here depends on: members,
channel records, erasure. A test that needs more programs it with ``on_rest``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from buttdial_sync.testing.dialects import DialectName
from buttdial_sync.testing.tool_answers import COSTS, PROFILE
from buttdial_sync.testing.workspace import RestCall, RestEndpoint, Workspace

_ACTIVE = {"status": "active"}
_CHANNELS = {
    "phone": {**_ACTIVE, "number": PROFILE["channels"]["phone"]},
    "whatsapp": {**_ACTIVE, "number": PROFILE["channels"]["phone"]},
    "email": {**_ACTIVE, "address": PROFILE["channels"]["email"]},
    "voiceAi": {"status": "inactive"},
}
_VOICES = [{"voiceId": "voice-1", "name": "Rachel"}, {"voiceId": "voice-2", "name": "Adam"}]
_MEMBER = {"email": "owner@example.com", "role": "owner", "addedAt": PROFILE["createdAt"]}
_MEMBERSHIP = {"orgId": "org-1", "orgName": "Example", "role": "owner"}
_RECORD = {
    "id": "channel-1",
    "channelType": "email",
    "identifier": PROFILE["channels"]["email"],
    "label": None,
    "capabilities": [],
    "paused": False,
    "primary": True,
    "createdAt": PROFILE["createdAt"],
}


def _channel_status(ws: Workspace, call: RestCall) -> Any:
    if ws.dialect.hosted:
        return _CHANNELS
    return {
        "agentId": call.request.query.get("agentId", PROFILE["agentId"]),
        "displayName": PROFILE["displayName"],
        "status": "active",
        "provisionedAt": ws.now,
        "channels": _CHANNELS,
        "pool": {"maxAgents": 5, "activeAgents": 1},
    }


def _billing(_ws: Workspace, call: RestCall) -> Any:
    return {**COSTS, "period": call.request.query.get("period", "month"), "markupPercent": 20}


def _usage(_ws: Workspace, call: RestCall) -> Any:
    return {
        "agentId": PROFILE["agentId"],
        "period": call.request.query.get("period", "today"),
        "actions": {"sms": 100},
        "totalActions": 100,
        "costsByChannel": {"sms": 0.79},
        "totalCost": 0.79,
        "currentUsage": {"actionsThisMinute": 1, "maxActionsPerMinute": 10},
    }


def _update_record(_ws: Workspace, call: RestCall) -> Any:
    return {**_RECORD, **call.params, **call.body}


def _echo(key: str, **fixed: Any) -> Callable[[Workspace, RestCall], Any]:
    """Answer with one value of the path or the body, which has to be there, and fixed ones."""
    return lambda _ws, call: {key: call.params.get(key) or call.text(key), **fixed}


def _row(
    method: str,
    template: str,
    answer: Mapping[str, Any] | Callable[[Workspace, RestCall], Any],
    only: DialectName | None = "hosted",
) -> RestEndpoint:
    act = answer if callable(answer) else lambda _ws, _call: answer
    return RestEndpoint(method, template, act, only=only)


ENDPOINTS: tuple[RestEndpoint, ...] = (
    _row("GET", "/api/v1/agents/me", PROFILE),
    _row("GET", "/api/v1/channel-status", _channel_status, None),
    _row("GET", "/api/v1/voices", {"voices": _VOICES, "count": len(_VOICES)}),
    _row("GET", "/api/v1/billing", _billing, None),
    _row("GET", "/api/v1/usage", _usage, None),
    _row("PUT", "/api/v1/callback-url", _echo("callbackUrl", success=True)),
    _row("PUT", "/api/v1/client-status", _echo("status", success=True)),
    _row("GET", "/api/users/me/memberships", {"memberships": [_MEMBERSHIP], **_MEMBER}),
    _row("GET", "/api/orgs/{org_id}/members", {"members": [_MEMBER]}),
    _row("POST", "/api/orgs/{org_id}/members", _echo("email", role="member")),
    _row("DELETE", "/api/orgs/{org_id}/members/{email}", _echo("email", removed=True)),
    _row("POST", "/api/orgs/me/erasure/start", {"erasureRequestId": "erasure-1"}),
    _row("POST", "/api/orgs/me/erasure/confirm", {"erased": True}),
    _row("POST", "/api/v1/release-number", _echo("phoneNumber", released=True)),
    _row("GET", "/api/v1/agents/{agent_id}/comm-channels", {"records": [_RECORD]}),
    _row("POST", "/api/v1/agents/{agent_id}/comm-channels", _RECORD),
    _row("PATCH", "/api/v1/comm-channels/{id}", _update_record),
    _row("DELETE", "/api/v1/comm-channels/{id}", {"deleted": True}),
)
"""They come before those of the workspace: ``me`` is not an agent's id."""
