"""
The blocking, thread-safe client for Butt-Dial.

::

    from buttdial_sync import Client

    with Client("https://butt-dial.example", agent_token="…") as client:
        result = client.send_message("+14155550123", "Your order has shipped.")

The public names are loaded on first use: importing this package loads neither ``requests`` nor
``cattrs``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from buttdial_sync._version import __version__ as __version__

if TYPE_CHECKING:
    from buttdial_sync.accounts.client import AccountsClient as AccountsClient
    from buttdial_sync.accounts.client import AccountsView as AccountsView
    from buttdial_sync.agent import AgentView as AgentView
    from buttdial_sync.client import Client as Client
    from buttdial_sync.doctor.diagnosis import run_diagnostic as run_diagnostic
    from buttdial_sync.errors import *  # noqa: F403
    from buttdial_sync.inbound.deliveries import DeliveryInProgressError as DeliveryInProgressError
    from buttdial_sync.inbound.deliveries import DeliveryLog as DeliveryLog
    from buttdial_sync.inbound.deliveries import MemoryDeliveryLog as MemoryDeliveryLog
    from buttdial_sync.inbound.handler import InboundHandler as InboundHandler
    from buttdial_sync.inbound.handler import InboundReport as InboundReport
    from buttdial_sync.inbound.handler import InboundResponse as InboundResponse
    from buttdial_sync.inbound.signatures import (
        verify_webhook_signature as verify_webhook_signature,
    )
    from buttdial_sync.listening.listener import Listener as Listener
    from buttdial_sync.models.accounts import Account as Account
    from buttdial_sync.models.accounts import ConfirmedPhone as ConfirmedPhone
    from buttdial_sync.models.accounts import ErasureRequest as ErasureRequest
    from buttdial_sync.models.accounts import Membership as Membership
    from buttdial_sync.models.accounts import Memberships as Memberships
    from buttdial_sync.models.accounts import PhoneChallenge as PhoneChallenge
    from buttdial_sync.models.agents import AgentCredentials as AgentCredentials
    from buttdial_sync.models.agents import AgentToken as AgentToken
    from buttdial_sync.models.agents import AgentTokens as AgentTokens
    from buttdial_sync.models.agents import BillingSettings as BillingSettings
    from buttdial_sync.models.agents import ClientLimits as ClientLimits
    from buttdial_sync.models.agents import Deprovisioned as Deprovisioned
    from buttdial_sync.models.agents import RegeneratedToken as RegeneratedToken
    from buttdial_sync.models.channels import CommChannel as CommChannel
    from buttdial_sync.models.channels import CommChannels as CommChannels
    from buttdial_sync.models.contacts import ConsentState as ConsentState
    from buttdial_sync.models.contacts import OtpVerification as OtpVerification
    from buttdial_sync.models.contacts import TrustState as TrustState
    from buttdial_sync.models.doctor import DoctorReport as DoctorReport
    from buttdial_sync.models.doctor import DoctorStage as DoctorStage
    from buttdial_sync.models.events import ClientEvent as ClientEvent
    from buttdial_sync.models.failed import FailedMessage as FailedMessage
    from buttdial_sync.models.inbound import AccountVerified as AccountVerified
    from buttdial_sync.models.inbound import Attachment as Attachment
    from buttdial_sync.models.inbound import DeliveryReceipt as DeliveryReceipt
    from buttdial_sync.models.inbound import InboundMessage as InboundMessage
    from buttdial_sync.models.inbound import Location as Location
    from buttdial_sync.models.inbound import StatusUpdate as StatusUpdate
    from buttdial_sync.models.inbox import WaitingMessage as WaitingMessage
    from buttdial_sync.models.inbox import WaitingMessages as WaitingMessages
    from buttdial_sync.models.onboarding import AbandonedOrg as AbandonedOrg
    from buttdial_sync.models.onboarding import Registration as Registration
    from buttdial_sync.models.onboarding import TeamCredentials as TeamCredentials
    from buttdial_sync.models.onboarding import VerificationSent as VerificationSent
    from buttdial_sync.models.onboarding import VerificationStatus as VerificationStatus
    from buttdial_sync.models.operator import AgentInfo as AgentInfo
    from buttdial_sync.models.operator import OverviewSnapshot as OverviewSnapshot
    from buttdial_sync.models.organization import CreatedTeam as CreatedTeam
    from buttdial_sync.models.organization import OnboardedCustomer as OnboardedCustomer
    from buttdial_sync.models.profile import AgentProfile as AgentProfile
    from buttdial_sync.models.profile import ChannelStatus as ChannelStatus
    from buttdial_sync.models.profile import RotatedToken as RotatedToken
    from buttdial_sync.models.sending import SendResult as SendResult
    from buttdial_sync.models.sessions import CreatedSession as CreatedSession
    from buttdial_sync.models.sessions import SessionList as SessionList
    from buttdial_sync.models.tool_result import ToolResult as ToolResult
    from buttdial_sync.models.tools import Tool as Tool
    from buttdial_sync.models.usage import BillingReport as BillingReport
    from buttdial_sync.models.usage import ChannelBilling as ChannelBilling
    from buttdial_sync.models.usage import UsageReport as UsageReport
    from buttdial_sync.models.voice import CallTransfer as CallTransfer
    from buttdial_sync.models.voice import PhoneCall as PhoneCall
    from buttdial_sync.models.voice import Speech as Speech
    from buttdial_sync.models.voice import VoiceMessage as VoiceMessage
    from buttdial_sync.models.voice import Voices as Voices
    from buttdial_sync.models.whatsapp import WhatsAppMessage as WhatsAppMessage
    from buttdial_sync.operator.api import OperatorApi as OperatorApi
    from buttdial_sync.operator.api import OperatorResponse as OperatorResponse
    from buttdial_sync.operator.directory import AgentDirectory as AgentDirectory
    from buttdial_sync.retry.loop import RetryLoop as RetryLoop
    from buttdial_sync.retry.outbox import Outbox as Outbox
    from buttdial_sync.retry.report import RetryReport as RetryReport
    from buttdial_sync.retry.repository import (
        AdminFailedMessageRepository as AdminFailedMessageRepository,
    )
    from buttdial_sync.retry.repository import FailedMessageRepository as FailedMessageRepository
    from buttdial_sync.retry.repository import OutboxRepository as OutboxRepository

_HOMES = {
    "DoctorReport": "models.doctor",
    "DoctorStage": "models.doctor",
    "run_diagnostic": "doctor.diagnosis",
    "AccountsClient": "accounts.client",
    "AccountsView": "accounts.client",
    "AgentView": "agent",
    "Client": "client",
    "Account": "models.accounts",
    "ConfirmedPhone": "models.accounts",
    "ErasureRequest": "models.accounts",
    "Membership": "models.accounts",
    "Memberships": "models.accounts",
    "PhoneChallenge": "models.accounts",
    "AgentCredentials": "models.agents",
    "AgentToken": "models.agents",
    "AgentTokens": "models.agents",
    "BillingSettings": "models.agents",
    "ClientLimits": "models.agents",
    "Deprovisioned": "models.agents",
    "RegeneratedToken": "models.agents",
    "CommChannel": "models.channels",
    "CommChannels": "models.channels",
    "ConsentState": "models.contacts",
    "OtpVerification": "models.contacts",
    "TrustState": "models.contacts",
    "ClientEvent": "models.events",
    "InboundHandler": "inbound.handler",
    "InboundResponse": "inbound.handler",
    "InboundReport": "inbound.handler",
    "Listener": "listening.listener",
    "DeliveryLog": "inbound.deliveries",
    "MemoryDeliveryLog": "inbound.deliveries",
    "DeliveryInProgressError": "inbound.deliveries",
    "verify_webhook_signature": "inbound.signatures",
    "Attachment": "models.inbound",
    "Location": "models.inbound",
    "InboundMessage": "models.inbound",
    "DeliveryReceipt": "models.inbound",
    "StatusUpdate": "models.inbound",
    "AccountVerified": "models.inbound",
    "FailedMessage": "models.failed",
    "WaitingMessage": "models.inbox",
    "WaitingMessages": "models.inbox",
    "AbandonedOrg": "models.onboarding",
    "Registration": "models.onboarding",
    "TeamCredentials": "models.onboarding",
    "VerificationSent": "models.onboarding",
    "VerificationStatus": "models.onboarding",
    "CreatedTeam": "models.organization",
    "OnboardedCustomer": "models.organization",
    "AgentProfile": "models.profile",
    "ChannelStatus": "models.profile",
    "RotatedToken": "models.profile",
    "SendResult": "models.sending",
    "CreatedSession": "models.sessions",
    "SessionList": "models.sessions",
    "ToolResult": "models.tool_result",
    "Tool": "models.tools",
    "BillingReport": "models.usage",
    "ChannelBilling": "models.usage",
    "UsageReport": "models.usage",
    "CallTransfer": "models.voice",
    "PhoneCall": "models.voice",
    "Speech": "models.voice",
    "VoiceMessage": "models.voice",
    "Voices": "models.voice",
    "WhatsAppMessage": "models.whatsapp",
    "RetryLoop": "retry.loop",
    "Outbox": "retry.outbox",
    "RetryReport": "retry.report",
    "AdminFailedMessageRepository": "retry.repository",
    "FailedMessageRepository": "retry.repository",
    "OutboxRepository": "retry.repository",
    "AgentInfo": "models.operator",
    "OverviewSnapshot": "models.operator",
    "AgentDirectory": "operator.directory",
    "OperatorApi": "operator.api",
    "OperatorResponse": "operator.api",
}


_ERRORS = f"{__name__}.errors"


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif not name.startswith("_") and name in (errors := import_module(_ERRORS)).__all__:
        value = getattr(errors, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*_HOMES, *import_module(_ERRORS).__all__, "__version__"})
