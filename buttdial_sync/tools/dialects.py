"""In what the tools of the two servers differ, by their names on the hosted one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KNOWN_EVERYWHERE: Mapping[str, frozenset[str]] = {
    "comms_bridge_call": frozenset({"action"}),
    "comms_call_on_behalf": frozenset({"target", "requesterPhone"}),
    "comms_get_billing_summary": frozenset(),
    "comms_get_usage_dashboard": frozenset(),
    "comms_make_call": frozenset({"to"}),
    "comms_record_consent": frozenset({"contactAddress", "channel"}),
    "comms_register_provider": frozenset({"provider", "credentials"}),
    "comms_send_message": frozenset({"to", "body", "channel"}),
    "comms_send_otp": frozenset({"to", "channel"}),
    "comms_send_voice_message": frozenset({"to", "text"}),
    "comms_transfer_call": frozenset({"callSid", "to"}),
    "comms_verify_otp": frozenset({"code"}),
}
"""The tools, and of each the arguments, that every server has under the same name."""

OTHER_TOOL_NAMES: Mapping[str, str] = {
    "comms_create_team": "comms_create_organization",
    "comms_expand_client_pool": "comms_expand_agent_pool",
    "comms_list_teams": "comms_list_organizations",
    "comms_set_client_limits": "comms_set_agent_limits",
}
"""What the open-source server calls a tool that it has too."""

OTHER_ARGUMENT_NAMES: Mapping[str, Mapping[str, str]] = {
    "comms_check_consent": {"contact": "contactAddress"},
    "comms_onboard_customer": {"agentName": "displayName"},
    "comms_verify_otp": {"to": "contactAddress"},
}
"""What the open-source server calls an argument that it has too."""

SENT_UNASKED: Mapping[str, Mapping[str, Any]] = {
    "comms_find_agent": {"includeSelf": True, "includeDraft": True},
    "comms_generate_tts": {"format": "ogg"},
    "comms_get_billing_summary": {"period": "month"},
    "comms_get_income": {"period": "month"},
    "comms_get_session": {"historyLimit": 20},
    "comms_get_usage_dashboard": {"period": "today"},
    "comms_grant_trust": {"channel": "manual"},
    "comms_list_sessions": {"status": "active", "limit": 50},
    "comms_record_consent": {"consentType": "express"},
    "comms_register_provider": {"autoVerify": True},
}
"""The methods' defaults: a caller who did not ask for them loses nothing where they are unknown."""

FREE_TO_BE_IGNORED = frozenset(
    {"idempotencyKey", "threadId", "entityId", "replyMsgId", "senderName", "targetGender"}
)
"""Arguments that a server may drop: what is done stays the same."""

MEANS_ANOTHER_AGENT = frozenset({"comms_get_billing_summary", "comms_onboard_customer"})
"""Tools whose ``agentId`` is what they are about, and not who speaks."""
