"""The REST endpoints of one agent: its profile, channels, voices, usage and costs."""

from __future__ import annotations

from typing import Any

from buttdial_sync.testing.answers import COSTS, PROFILE
from buttdial_sync.testing.workspace import AccountsEndpoint, Ask, Workspace

_ACTIVE = {"status": "active"}
_CHANNELS = {
    "phone": {**_ACTIVE, "number": PROFILE["channels"]["phone"]},
    "whatsapp": {**_ACTIVE, "number": PROFILE["channels"]["phone"]},
    "email": {**_ACTIVE, "address": PROFILE["channels"]["email"]},
    "voiceAi": {"status": "inactive"},
}


def _me(_ws: Workspace, _ask: Ask) -> Any:
    return PROFILE


def _channel_status(ws: Workspace, _ask: Ask) -> Any:
    if ws.dialect.hosted:
        return _CHANNELS
    return {
        "agentId": PROFILE["agentId"],
        "displayName": PROFILE["displayName"],
        "status": "active",
        "provisionedAt": ws.now,
        "channels": _CHANNELS,
        "pool": {"maxAgents": 5, "activeAgents": 1},
    }


def _voices(_ws: Workspace, _ask: Ask) -> Any:
    voices = [{"voiceId": "voice-1", "name": "Rachel"}, {"voiceId": "voice-2", "name": "Adam"}]
    return {"voices": voices, "count": len(voices)}


def _billing(_ws: Workspace, ask: Ask) -> Any:
    return {**COSTS, "period": ask.request.query.get("period", "month"), "markupPercent": 20}


def _usage(_ws: Workspace, ask: Ask) -> Any:
    return {
        "agentId": PROFILE["agentId"],
        "period": ask.request.query.get("period", "today"),
        "actions": {"sms": 100},
        "totalActions": 100,
        "costsByChannel": {"sms": 0.79},
        "totalCost": 0.79,
        "currentUsage": {"actionsThisMinute": 1, "maxActionsPerMinute": 10},
    }


def _set_callback_url(_ws: Workspace, ask: Ask) -> Any:
    return {"success": True, "callbackUrl": ask.text("callbackUrl")}


def _set_status(_ws: Workspace, ask: Ask) -> Any:
    return {"success": True, "status": ask.text("status")}


ENDPOINTS: tuple[AccountsEndpoint, ...] = (
    AccountsEndpoint("GET", "/api/v1/agents/me", _me),
    AccountsEndpoint("GET", "/api/v1/channel-status", _channel_status, only=None),
    AccountsEndpoint("GET", "/api/v1/voices", _voices),
    AccountsEndpoint("GET", "/api/v1/billing", _billing, only=None),
    AccountsEndpoint("GET", "/api/v1/usage", _usage, only=None),
    AccountsEndpoint("PUT", "/api/v1/callback-url", _set_callback_url),
    AccountsEndpoint("PUT", "/api/v1/client-status", _set_status),
)
"""They stand before those of the accounts: ``me`` is no agent's id."""
