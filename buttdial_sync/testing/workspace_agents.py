"""The accounts endpoints about agents: registration, channels, tokens, limits, billing."""

from __future__ import annotations

from typing import Any

from buttdial_sync.testing.workspace import (
    AccountsEndpoint,
    Agent,
    Ask,
    Refusal,
    Workspace,
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


def _register(ws: Workspace, ask: Ask) -> Any:
    agent_id, name = ask.text("agent_id"), ask.text("display_name")
    key = ask.request.headers.get("idempotency-key", "")
    if (agent_id, key) in ws.kept:
        return ws.kept[agent_id, key]
    agent = _new_agent(ws, agent_id, name)
    answer = {"agent_id": agent.id, "token": ws.new_agent_token(agent)}
    if key:
        ws.kept[agent_id, key] = answer
    return answer


def _new_agent(ws: Workspace, agent_id: str, name: str) -> Agent:
    if agent_id in ws.agents:
        raise Refusal(409, f'Agent "{agent_id}" already exists')
    return ws.agents.setdefault(agent_id, Agent(agent_id, name, ws.now))


def _get(ws: Workspace, ask: Ask) -> Any:
    agent = ws.agent(ask.params["agent_id"])
    return {
        "agentId": agent.id,
        "displayName": agent.name,
        "status": agent.status,
        "channels": agent.channels,
        "createdAt": agent.created_at,
    }


def _provision(ws: Workspace, ask: Ask) -> Any:
    agent, token = _made(ws, ask)
    token_key = "token" if ws.dialect.hosted else "securityToken"
    return {
        "success": True,
        "agentId": agent.id,
        _name_key(ws): agent.name,
        token_key: token,
        "channels": agent.channels,
    }


def _onboard(ws: Workspace, ask: Ask) -> Any:
    agent, token = _made(ws, ask)
    answer = {"agentId": agent.id, _name_key(ws): agent.name, "channels": agent.channels}
    if ws.dialect.hosted:
        return {**answer, "token": token}
    return {"success": True, "provisioning": {**answer, "securityToken": token}}


def _made(ws: Workspace, ask: Ask) -> tuple[Agent, str]:
    name = ask.text(_name_key(ws))
    agent_id = str(ask.body.get("agentId") or ws.fresh("agent"))
    known = ws.agents.get(agent_id) if ws.dialect.hosted else None
    agent = known or _new_agent(ws, agent_id, name)
    for channel, wanted in (ask.body.get("capabilities") or {}).items():
        if wanted and (ws.dialect.hosted or channel in _CAPABILITIES):
            agent.channels[channel] = {"status": "active"}
    return agent, ws.new_agent_token(agent)


def _name_key(ws: Workspace) -> str:
    return "agentName" if ws.dialect.hosted else "displayName"


def _deprovision(ws: Workspace, ask: Ask) -> Any:
    agent = ws.agent(ask.text("agentId"))
    for token, _ in agent.tokens:
        ws.gate.revoke(token)
    del ws.agents[agent.id]
    return {"status": "deprovisioned", "numberReleased": ask.body.get("releaseNumber", True)}


def _release(_ws: Workspace, ask: Ask) -> Any:
    return {"released": True, "phoneNumber": ask.text("phoneNumber")}


def _regenerate(ws: Workspace, ask: Ask) -> Any:
    agent = ws.agent(ask.params["agent_id"])
    revoked = len(agent.tokens)
    return {"token": ws.new_agent_token(agent), "revokedCount": revoked}


def _tokens(ws: Workspace, ask: Ask) -> Any:
    tokens = [
        {
            "id": f"{number}",
            "label": "default",
            "last_four": token[-4:],
            "createdAt": created_at,
            "lastUsedAt": None,
            "ip_hint": None,
        }
        for number, (token, created_at) in enumerate(ws.agent(ask.params["agent_id"]).tokens, 1)
    ]
    return {"tokens": tokens}


def _manage(ws: Workspace, ask: Ask) -> Any:
    agent, channel = ws.agent(ask.params["agent_id"]), ask.text("channel")
    if ask.text("action") == "add":
        agent.channels[channel] = {"status": "active", **(ask.body.get("options") or {})}
    elif agent.channels.pop(channel, None) is None:
        raise Refusal(404, f"The agent has no {channel}", "NO_CHANNEL_ASSIGNED", channel=channel)
    return {"agentId": agent.id, "channels": agent.channels}


def _list_records(ws: Workspace, ask: Ask) -> Any:
    agent = ws.agent(ask.params["agent_id"])
    fitting = (record for record in ws.records.values() if record["agentId"] == agent.id)
    return {"records": [{k: v for k, v in each.items() if k != "agentId"} for each in fitting]}


def _add_record(ws: Workspace, ask: Ask) -> Any:
    agent = ws.agent(ask.params["agent_id"])
    local_part = ask.body.get("email_local_part")
    record = {
        "id": ws.fresh("channel"),
        "agentId": agent.id,
        "channelType": ask.text("channel_type"),
        "identifier": ask.body.get("identifier") or (local_part and f"{local_part}@example.com"),
        "label": ask.body.get("label"),
        "capabilities": ask.body.get("capabilities") or [],
        "paused": False,
        "primary": not ws.records,
        "createdAt": ws.now,
    }
    return ws.records.setdefault(str(record["id"]), record)


def _update_record(ws: Workspace, ask: Ask) -> Any:
    record = _record(ws, ask)
    record.update({key: ask.body[key] for key in ("label", "paused", "primary") if key in ask.body})
    return record


def _delete_record(ws: Workspace, ask: Ask) -> Any:
    del ws.records[_record(ws, ask)["id"]]
    return {"deleted": True}


def _record(ws: Workspace, ask: Ask) -> dict[str, Any]:
    record_id = ask.params["record_id"]
    if record_id not in ws.records:
        raise Refusal(404, "There is no such channel")
    return ws.records[record_id]


def _set_limits(ws: Workspace, ask: Ask) -> Any:
    limits = ask.body.get("limits")
    if not limits:
        raise Refusal(400, "Missing required field 'limits'.")
    agent_id = ask.body.get("agentId")
    kept = ws.agent(agent_id).limits if agent_id else {}
    kept.update(limits if ws.dialect.hosted else {k: limits[k] for k in _LIMITS if k in limits})
    return {"success": True, "agentId": agent_id, "currentLimits": {**_LIMITS, **kept}}


def _set_billing(ws: Workspace, ask: Ask) -> Any:
    agent_id = ask.body.get("agentId")
    kept = ws.agent(agent_id).billing if agent_id else {}
    kept.update({key: ask.body[key] for key in _BILLING if key in ask.body})
    return {
        "success": True,
        "agentId": agent_id,
        "billingConfig": {**_BILLING, **kept},
        "tierLimits": _LIMITS,
    }


ENDPOINTS: tuple[AccountsEndpoint, ...] = (
    AccountsEndpoint("POST", "/api/v1/agents", _register, status=201),
    AccountsEndpoint("GET", "/api/v1/agents/{agent_id}", _get),
    AccountsEndpoint("POST", "/api/v1/onboard", _onboard, only=None),
    AccountsEndpoint("POST", "/api/v1/provision", _provision, only=None),
    AccountsEndpoint("POST", "/api/v1/deprovision", _deprovision, only=None),
    AccountsEndpoint("POST", "/api/v1/release-number", _release),
    AccountsEndpoint("POST", "/api/v1/agents/{agent_id}/regenerate-token", _regenerate, only=None),
    AccountsEndpoint("GET", "/api/v1/agents/{agent_id}/tokens", _tokens, only=None),
    AccountsEndpoint("POST", "/api/v1/agents/{agent_id}/channels", _manage),
    AccountsEndpoint("GET", "/api/v1/agents/{agent_id}/comm-channels", _list_records),
    AccountsEndpoint("POST", "/api/v1/agents/{agent_id}/comm-channels", _add_record, status=201),
    AccountsEndpoint("PATCH", "/api/v1/comm-channels/{record_id}", _update_record),
    AccountsEndpoint("DELETE", "/api/v1/comm-channels/{record_id}", _delete_record),
    AccountsEndpoint("POST", "/api/v1/client-limits", _set_limits),
    AccountsEndpoint("POST", "/api/v1/agent-limits", _set_limits, only="open-source"),
    AccountsEndpoint("POST", "/api/v1/billing/config", _set_billing, only=None),
)
