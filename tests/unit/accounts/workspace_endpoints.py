"""Endpoints of a workspace with a state of their own: members, channel records, erasure."""

from __future__ import annotations

from typing import Any

from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.workspace import Org, Refusal, RestCall, RestEndpoint, Workspace


class WorkspaceEndpoints:
    """
    They replace the fixed answers of a fake server.

    Args:
        fake: The server.

    Attributes:
        erasures: The tokens in the mails about an erasure, and the workspaces that they erase.
    """

    def __init__(self, fake: FakeButtDialServer) -> None:
        self.erasures: dict[str, Org] = {}
        self._members: dict[str, dict[str, Any]] = {}
        self._records: dict[str, dict[str, Any]] = {}
        member = "/api/orgs/{org_id}/members"
        channels = "/api/v1/agents/{agent_id}/comm-channels"
        record = "/api/v1/comm-channels/{record_id}"
        fake.core.rest.programmed += [
            RestEndpoint("GET", "/api/users/me/memberships", self._memberships),
            RestEndpoint("GET", member, self._list_members),
            RestEndpoint("POST", member, self._add_member, status=201),
            RestEndpoint("DELETE", f"{member}/{{email}}", self._remove_member),
            RestEndpoint("POST", "/api/orgs/me/erasure/start", self._start_erasure),
            RestEndpoint("POST", "/api/orgs/me/erasure/confirm", self._erase, public=True),
            RestEndpoint("GET", channels, self._list_records),
            RestEndpoint("POST", channels, self._add_record, status=201),
            RestEndpoint("PATCH", record, self._update_record),
            RestEndpoint("DELETE", record, self._delete_record),
        ]

    def _memberships(self, ws: Workspace, call: RestCall) -> Any:
        org = ws.org_of(call.token)
        one = {"orgId": org.id, "orgName": org.name, "role": "owner", "addedAt": org.created_at}
        return {"email": org.owner_email, "memberships": [one]}

    def _list_members(self, _ws: Workspace, _call: RestCall) -> Any:
        return {"members": list(self._members.values())}

    def _add_member(self, ws: Workspace, call: RestCall) -> Any:
        email = call.text("email")
        if email in self._members:
            raise Refusal(409, "The person is a member")
        role = call.body.get("role", "member")
        self._members[email] = {"email": email, "role": role, "addedAt": ws.now}
        return self._members[email]

    def _remove_member(self, _ws: Workspace, call: RestCall) -> Any:
        email = call.params["email"]
        if self._members.pop(email, None) is None:
            raise Refusal(404, "The person is not a member")
        return {"removed": True, "email": email}

    def _start_erasure(self, ws: Workspace, call: RestCall) -> Any:
        org = ws.org_of(call.token)
        self.erasures[ws.fresh("erase-token")] = org
        return {
            "erasureRequestId": ws.fresh("erasure"),
            "expiresAt": ws.now,
            "message": f"A mail went to {org.owner_email}",
        }

    def _erase(self, ws: Workspace, call: RestCall) -> Any:
        token = call.text("confirmationToken")
        if token not in self.erasures:
            raise Refusal(404, "There is no such request")
        if ws.agents and not call.body.get("force"):
            raise Refusal(409, "There are still agents")
        org = self.erasures.pop(token)
        ws.token_check.revoke(org.team_token or "")
        ws.orgs.pop(org.id, None)
        ws.agents.clear()
        return {"erased": True, "orgId": org.id}

    def _list_records(self, _ws: Workspace, _call: RestCall) -> Any:
        return {"records": list(self._records.values())}

    def _add_record(self, ws: Workspace, call: RestCall) -> Any:
        local_part = call.body.get("email_local_part")
        record: dict[str, Any] = {
            "id": ws.fresh("channel"),
            "channelType": call.text("channel_type"),
            "identifier": call.body.get("identifier") or f"{local_part}@example.com",
            "label": call.body.get("label"),
            "capabilities": call.body.get("capabilities") or [],
            "paused": False,
            "primary": not self._records,
            "createdAt": ws.now,
        }
        return self._records.setdefault(record["id"], record)

    def _update_record(self, _ws: Workspace, call: RestCall) -> Any:
        wanted = {key: call.body[key] for key in ("label", "paused", "primary") if key in call.body}
        self._record(call).update(wanted)
        return self._record(call)

    def _delete_record(self, _ws: Workspace, call: RestCall) -> Any:
        del self._records[self._record(call)["id"]]
        return {"deleted": True}

    def _record(self, call: RestCall) -> dict[str, Any]:
        record_id = call.params["record_id"]
        if record_id not in self._records:
            raise Refusal(404, "There is no such channel")
        return self._records[record_id]
