"""The accounts endpoints about agents: registration, channels, tokens, limits, billing."""

from __future__ import annotations

from typing import Any

from buttdial_sync.testing.workspace import (
    Refusal,
    RestCall,
    RestEndpoint,
    Workspace,
    WorkspaceAgent,
)

_LIMITS = {
    "maxActionsPerMinute": 10,
    "maxActionsPerHour": 100,
    "maxActionsPerDay": 500,
    "maxSpendPerDay": 10,
    "maxSpendPerMonth": 100,
}
_CAPABILITIES = ("phone", "whatsapp", "email", "voiceAi")
_BILLING = {"tier": "free", "markupPercent": 0, "billingEmail": None}


def _register(ws: Workspace, call: RestCall) -> Any:
    agent_id, name = call.text("agent_id"), call.text("display_name")
    key = call.request.headers.get("idempotency-key", "")
    if (agent_id, key) in ws.kept:
        return ws.kept[agent_id, key]
    agent = _new_agent(ws, agent_id, name)
    answer = {"agent_id": agent.id, "token": ws.new_agent_token(agent)}
    if key:
        ws.kept[agent_id, key] = answer
    return answer


def _new_agent(ws: Workspace, agent_id: str, name: str) -> WorkspaceAgent:
    if agent_id in ws.agents:
        raise Refusal(409, f'Agent "{agent_id}" already exists')
    return ws.agents.setdefault(agent_id, WorkspaceAgent(agent_id, name, ws.now))


def _get(ws: Workspace, call: RestCall) -> Any:
    agent = ws.agent(call.params["agent_id"])
    return {
        "agentId": agent.id,
        "displayName": agent.name,
        "status": agent.status,
        "channels": agent.channels,
        "createdAt": agent.created_at,
    }


def _provision(ws: Workspace, call: RestCall) -> Any:
    agent, token = _made(ws, call)
    token_key = "token" if ws.dialect.hosted else "securityToken"
    return {
        "success": True,
        "agentId": agent.id,
        _name_key(ws): agent.name,
        token_key: token,
        "channels": agent.channels,
    }


def _onboard(ws: Workspace, call: RestCall) -> Any:
    agent, token = _made(ws, call)
    answer = {"agentId": agent.id, _name_key(ws): agent.name, "channels": agent.channels}
    if ws.dialect.hosted:
        return {**answer, "token": token}
    return {"success": True, "provisioning": {**answer, "securityToken": token}}


def _made(ws: Workspace, call: RestCall) -> tuple[WorkspaceAgent, str]:
    name = call.text(_name_key(ws))
    agent_id = str(call.body.get("agentId") or ws.fresh("agent"))
    known = ws.agents.get(agent_id) if ws.dialect.hosted else None
    agent = known or _new_agent(ws, agent_id, name)
    for channel, wanted in (call.body.get("capabilities") or {}).items():
        if wanted and (ws.dialect.hosted or channel in _CAPABILITIES):
            agent.channels[channel] = {"status": "active"}
    return agent, ws.new_agent_token(agent)


def _name_key(ws: Workspace) -> str:
    return "agentName" if ws.dialect.hosted else "displayName"


def _deprovision(ws: Workspace, call: RestCall) -> Any:
    agent = ws.agent(call.text("agentId"))
    for token, _ in agent.tokens:
        ws.token_check.revoke(token)
    del ws.agents[agent.id]
    return {"status": "deprovisioned", "numberReleased": call.body.get("releaseNumber", True)}


def _regenerate(ws: Workspace, call: RestCall) -> Any:
    agent = ws.agent(call.params["agent_id"])
    revoked = len(agent.tokens)
    return {"token": ws.new_agent_token(agent), "revokedCount": revoked}


def _tokens(ws: Workspace, call: RestCall) -> Any:
    tokens = [
        {
            "id": f"{number}",
            "label": "default",
            "last_four": token[-4:],
            "createdAt": created_at,
            "lastUsedAt": None,
            "ip_hint": None,
        }
        for number, (token, created_at) in enumerate(ws.agent(call.params["agent_id"]).tokens, 1)
    ]
    return {"tokens": tokens}


def _manage(ws: Workspace, call: RestCall) -> Any:
    agent, channel = ws.agent(call.params["agent_id"]), call.text("channel")
    if call.text("action") == "add":
        agent.channels[channel] = {"status": "active", **(call.body.get("options") or {})}
    elif agent.channels.pop(channel, None) is None:
        raise Refusal(404, f"The agent has no {channel}", "NO_CHANNEL_ASSIGNED", channel=channel)
    return {"agentId": agent.id, "channels": agent.channels}


def _set_limits(ws: Workspace, call: RestCall) -> Any:
    limits = call.body.get("limits")
    if not limits:
        raise Refusal(400, "Missing required field 'limits'.")
    agent_id = call.body.get("agentId")
    kept = ws.agent(agent_id).limits if agent_id else {}
    kept.update(limits if ws.dialect.hosted else {k: limits[k] for k in _LIMITS if k in limits})
    return {"success": True, "agentId": agent_id, "currentLimits": {**_LIMITS, **kept}}


def _set_billing(ws: Workspace, call: RestCall) -> Any:
    agent_id = call.body.get("agentId")
    kept = ws.agent(agent_id).billing if agent_id else {}
    kept.update({key: call.body[key] for key in _BILLING if key in call.body})
    return {
        "success": True,
        "agentId": agent_id,
        "billingConfig": {**_BILLING, **kept},
        "tierLimits": _LIMITS,
    }


ENDPOINTS: tuple[RestEndpoint, ...] = (
    RestEndpoint("POST", "/api/v1/agents", _register, status=201),
    RestEndpoint("GET", "/api/v1/agents/{agent_id}", _get),
    RestEndpoint("POST", "/api/v1/onboard", _onboard, only=None),
    RestEndpoint("POST", "/api/v1/provision", _provision, only=None),
    RestEndpoint("POST", "/api/v1/deprovision", _deprovision, only=None),
    RestEndpoint("POST", "/api/v1/agents/{agent_id}/regenerate-token", _regenerate, only=None),
    RestEndpoint("GET", "/api/v1/agents/{agent_id}/tokens", _tokens, only=None),
    RestEndpoint("POST", "/api/v1/agents/{agent_id}/channels", _manage),
    RestEndpoint("POST", "/api/v1/client-limits", _set_limits),
    RestEndpoint("POST", "/api/v1/agent-limits", _set_limits, only="open-source"),
    RestEndpoint("POST", "/api/v1/billing/config", _set_billing, only=None),
)
