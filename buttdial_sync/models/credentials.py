"""Fields that hold a secret, and the names that servers give to them."""

from __future__ import annotations

from typing import Any

import attrs

_TEAM_TOKEN_NAMES = ("team_token", "teamToken", "ownerToken", "owner_token", "token")
_AGENT_TOKEN_NAMES = (
    "agent_token",
    "agentToken",
    "token",
    "securityToken",
    "security_token",
    "provisioning.securityToken",
    "provisioning.token",
)


def team_token_field() -> Any:
    """Return a required field for a workspace's token, under whichever name it comes."""
    return attrs.field(repr=False, metadata={"names": _TEAM_TOKEN_NAMES})


def agent_token_field(**options: Any) -> Any:
    """Return a field for an agent's token, under whichever name it comes; required by default."""
    return attrs.field(repr=False, metadata={"names": _AGENT_TOKEN_NAMES}, **options)
