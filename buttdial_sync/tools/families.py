"""All families of one agent."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from buttdial_sync.tools.caller import AgentCaller
from buttdial_sync.tools.sending import Sender
from buttdial_sync.tools.waiting import QueueWatch

if TYPE_CHECKING:
    from buttdial_sync.tools.billing import Billing
    from buttdial_sync.tools.consent import Consent
    from buttdial_sync.tools.directory import Directory
    from buttdial_sync.tools.inbox import Inbox
    from buttdial_sync.tools.organization import Organization
    from buttdial_sync.tools.otp import Otp
    from buttdial_sync.tools.profile import Profile
    from buttdial_sync.tools.sessions import Sessions
    from buttdial_sync.tools.trust import Trust
    from buttdial_sync.tools.voice import Voice
    from buttdial_sync.tools.whatsapp import WhatsApp

_CLASSES = {
    "whatsapp": "WhatsApp",
    "voice": "Voice",
    "sessions": "Sessions",
    "consent": "Consent",
    "trust": "Trust",
    "otp": "Otp",
    "directory": "Directory",
    "inbox": "Inbox",
    "billing": "Billing",
    "profile": "Profile",
    "organization": "Organization",
}


class Families:
    """
    Something that speaks as one agent. Safe to share between threads.

    Args:
        caller: Carries the operations out.
        watch: Warns of waiting messages that could get lost.

    Attributes:
        whatsapp: Reactions, polls, buttons, … on WhatsApp.
        voice: Calls and speech.
        sessions: Conversations with several participants.
        consent: What contacts have agreed to.
        trust: Which contacts the agent trusts.
        otp: One-time passcodes.
        directory: Other agents, contacts, groups and numbers.
        inbox: What comes in.
        billing: Usage, costs and income.
        profile: The agent itself.
        organization: What administrators may do.
    """

    whatsapp: WhatsApp
    voice: Voice
    sessions: Sessions
    consent: Consent
    trust: Trust
    otp: Otp
    directory: Directory
    inbox: Inbox
    billing: Billing
    profile: Profile
    organization: Organization

    def __init__(self, caller: AgentCaller, watch: QueueWatch) -> None:
        self._speak_through(caller, watch)

    def _speak_through(self, caller: AgentCaller, watch: QueueWatch) -> None:
        self._caller = caller
        self._watch = watch
        self._sender = Sender(caller)
        for name in _CLASSES:
            self.__dict__.pop(name, None)

    if not TYPE_CHECKING:  # a type checker would take every misspelt name for Any

        def __getattr__(self, name: str) -> Any:
            """Make a family when it is first used: their result types cost more than a send."""
            if name not in _CLASSES:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            family = getattr(import_module(f"buttdial_sync.tools.{name}"), _CLASSES[name])
            extra = (self._watch,) if name == "inbox" else ()
            return self.__dict__.setdefault(name, family(self._caller, *extra))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_CLASSES})
