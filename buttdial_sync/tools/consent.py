"""What contacts have agreed to."""

from __future__ import annotations

from typing import Literal

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.models.contacts import ConsentState
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.family import Family

ConsentType = Literal["express", "implied", "transactional"]

_CHECK_CONSENT = ToolOperation(
    "comms_check_consent",
    ConsentState,
    reads_only=True,
    open_source_names={"contact": "contactAddress"},
)
_RECORD_CONSENT = ToolOperation(
    "comms_record_consent",
    ToolResult,
    shared=("channel", "contactAddress"),
    defaults={"consentType": "express"},
)
_REVOKE_CONSENT = ToolOperation("comms_revoke_consent", ToolResult)


class Consent(Family):
    """
    Consent of an agent's contacts, as ``client.consent``. Safe to share between threads.

    Contacts are written as ``send_message`` sends them, so that servers find them again; what the
    channel cannot reach raises ``ArgumentValueError``.

    Scope: agent.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        NotSupportedError: This server does not support the call or an argument. Nothing was done.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.
    """

    @checked
    def check(self, contact: str, channel: str) -> ConsentState:
        """
        Return what a contact has agreed to.

        Args:
            contact: The contact's E.164 number or address.
            channel: On which channel, as in ``"sms"``.

        Returns:
            The state; the servers say different things about it.
        """
        contact = self._agent.recipients.normalized(contact, channel)
        return self._call(_CHECK_CONSENT, contact=contact, channel=channel)

    @checked
    def record(
        self,
        contact: str,
        channel: str,
        *,
        consent_type: ConsentType = "express",
        source: str | None = None,
        notes: str | None = None,
    ) -> ToolResult:
        """
        Record that a contact has agreed.

        Calling it twice is safe: the consent stays.

        Args:
            contact: The contact's E.164 number or address.
            channel: On which channel, as in ``"sms"``.
            consent_type: ``"express"``, ``"implied"`` or ``"transactional"``.
            source: Where the consent came from, as in ``"web form"``.
            notes: Anything else that proves it.
        """
        contact = self._agent.recipients.normalized(contact, channel)
        return self._call(
            _RECORD_CONSENT,
            contact_address=contact,
            channel=channel,
            consent_type=consent_type,
            source=source,
            notes=notes,
        )

    @checked
    def revoke(self, contact: str, channel: str, *, confirm: bool) -> ToolResult:
        """
        Withdraw a contact's consent: messages to it are refused from now on.

        Calling it twice is safe: it stays withdrawn.

        Args:
            contact: The contact's E.164 number or address.
            channel: On which channel, as in ``"sms"``.
            confirm: True carries it out. False asks what would happen: ``previewed`` is true.
        """
        contact = self._agent.recipients.normalized(contact, channel)
        return self._call(
            _REVOKE_CONSENT, contact_address=contact, channel=channel, confirm=confirm
        )
