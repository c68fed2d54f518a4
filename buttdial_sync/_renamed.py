"""Names of the published SDK and of other libraries, and what they are called here."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

T = TypeVar("T")

_OF_PACKAGE = {
    "Agent": "Client",
    "RetryWorker": "RetryLoop",
    "default_backoff": "the backoff of RetryLoop",
    "find_remediation": "the attribute remediation of each error and result",
    "make_router": "OperatorApi, with its wsgi() and asgi()",
    "parse_error_response": "error_from_response",
}
_OF_HANDLER = {
    "handle_generic_payload": "InboundHandler.handle",
    "handle_whatsapp_payload": "InboundHandler.handle",
    "router": "InboundHandler.asgi() and wsgi()",
    "verify_whatsapp_signature": "InboundHandler.handle, which verifies signatures",
    "verify_whatsapp_subscription": "InboundHandler.handle, which answers subscriptions",
}
_OF_CLIENT = {
    "chat_postMessage": "client.send_message",
    "messages": "client.send_message",
    "send": "client.send_message",
    "send_email": 'client.send_message(..., channel="email")',
    "send_line": 'client.send_message(..., channel="line")',
    "send_sms": 'client.send_message(..., channel="sms")',
    "send_whatsapp": "client.send_message",
    "bridge_call": (
        "client.organization.bridges, client.organization.call_bridge, "
        "client.organization.remove_bridge, client.organization.setup_bridge"
    ),
    "call_on_behalf": "client.voice.call_on_behalf",
    "check_consent": "client.consent.check",
    "check_trust": "client.trust.check",
    "close_session": "client.sessions.close",
    "create_session": "client.sessions.create",
    "create_team": "client.organization.create_team",
    "delete": "client.whatsapp.delete",
    "deprovision_channels": "client.organization.deprovision_channels",
    "edit": "client.whatsapp.edit",
    "expand_client_pool": "client.organization.expand_pool",
    "fetch_usage_summary": "client.billing.usage",
    "find_agent": "client.directory.find_agents",
    "forward": "client.whatsapp.forward",
    "generate_tts": "client.voice.generate_tts",
    "get_billing": "client.billing.current",
    "get_billing_summary": "client.billing.summary",
    "get_channel_status": "client.profile.channel_status",
    "get_contact_profile": "client.directory.contact_profile",
    "get_group_members": "client.directory.group_members",
    "get_income": "client.billing.income",
    "get_me": "client.profile.me",
    "get_message_status": "client.inbox.message_status",
    "get_self": "client.profile.get",
    "get_session": "client.sessions.get",
    "get_usage_dashboard": "client.billing.usage_dashboard",
    "get_waiting_messages": "client.inbox.waiting",
    "grant_trust": "client.trust.grant",
    "list_available_numbers": "client.organization.available_numbers",
    "list_sessions": "client.sessions.list",
    "list_teams": "client.organization.list_teams",
    "list_voices": "client.voice.list_voices",
    "make_call": "client.voice.make_call",
    "manage_channel": "client.organization.add_channel, client.organization.remove_channel",
    "manage_inbound_filter": (
        "client.inbox.add_filter, client.inbox.delete_filter, client.inbox.filters"
    ),
    "mark_read": "client.whatsapp.mark_read",
    "message_agent": "client.directory.message_agent",
    "onboard_customer": "client.organization.onboard_customer",
    "post_status": "client.whatsapp.post_status",
    "react": "client.whatsapp.react",
    "record_consent": "client.consent.record",
    "register_provider": "client.organization.register_provider",
    "revoke_consent": "client.consent.revoke",
    "revoke_trust": "client.trust.revoke",
    "rotate_agent_token": "client.profile.rotate_token",
    "send_buttons": "client.whatsapp.send_buttons",
    "send_contact": "client.whatsapp.send_contact",
    "send_location": "client.whatsapp.send_location",
    "send_otp": "client.otp.send",
    "send_poll": "client.whatsapp.send_poll",
    "send_view_once": "client.whatsapp.send_view_once",
    "send_voice_message": "client.voice.send_message",
    "set_callback_url": "client.inbox.set_callback_url",
    "set_chat_ttl": "client.whatsapp.set_chat_ttl",
    "set_client_limits_safe": "client.organization.set_limits",
    "set_client_status": "client.profile.set_status",
    "set_voice_callback": "client.voice.set_callback",
    "subscribe_inbound": (
        "client.inbox.subscribe, client.inbox.subscription, client.inbox.unsubscribe"
    ),
    "transfer_call": "client.voice.transfer_call",
    "typing": "client.whatsapp.typing",
    "update_profile": "client.profile.update",
    "validate_number": "client.directory.validate_number",
    "verify_otp": "client.otp.verify",
    "whatsapp_action": "client.whatsapp.action",
}
RENAMED = {"buttdial_sync": _OF_PACKAGE, "Client": _OF_CLIENT, "InboundHandler": _OF_HANDLER}


def missing_attribute(owner: str, name: str, **found_in: Any) -> AttributeError | ImportError:
    """
    Return the error of a name that does not exist, with its name in this library if it has one.

    Args:
        owner: The package or class, a key of ``RENAMED``.
        name: The name.
        **found_in: ``obj``, from which Python suggests a similar name.
    """
    text = f"{owner} has no attribute {name!r}"
    new_name = RENAMED.get(owner, {}).get(name)
    if new_name is None:
        return AttributeError(text, name=name, **found_in)
    text = f"{text}: it is {new_name} here"
    # "from package import name" would replace an AttributeError, and its text, by another.
    return ImportError(text, name=owner) if owner == __package__ else AttributeError(text)


def shown_as(name: str) -> Callable[[type[T]], type[T]]:
    """Let Python's own errors name the methods of a base class by the class that users know."""

    def rename(owner: type[T]) -> type[T]:
        for method in vars(owner).values():
            if isinstance(method, FunctionType):
                method.__qualname__ = f"{name}.{method.__name__}"
        return owner

    return rename
