"""Which contacts an agent trusts."""

from __future__ import annotations

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.models.contacts import TrustState
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.family import Family

_CHECK_TRUST = ToolOperation("comms_check_trust", TrustState, reads_only=True)
_GRANT_TRUST = ToolOperation("comms_grant_trust", ToolResult, defaults={"channel": "manual"})
_REVOKE_TRUST = ToolOperation("comms_revoke_trust", ToolResult)


class Trust(Family):
    """
    Trust in an agent's contacts, as ``client.trust``. Only the hosted server has it.

    Safe to share between threads. Contacts are written as ``send_message`` sends them, so that the
    server finds them again; what cannot be one raises ``ArgumentValueError``.

    Scope: agent.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        NotSupportedError: This server does not support the call or an argument. Nothing was done.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.
    """

    @checked
    def check(self, contact: str) -> TrustState:
        """
        Return whether a contact is trusted.

        Args:
            contact: The contact's E.164 number or address.
        """
        return self._call(_CHECK_TRUST, contact=self._as_sent(contact))

    @checked
    def grant(
        self, contact: str, *, channel: str = "manual", duration_minutes: int | None = None
    ) -> ToolResult:
        """
        Trust a contact.

        Calling it twice is safe: the time starts again.

        Args:
            contact: The contact's E.164 number or address.
            channel: How it proved itself.
            duration_minutes: For how many minutes. Defaults to the server's own time.
        """
        return self._call(
            _GRANT_TRUST,
            contact_address=self._as_sent(contact),
            channel=channel,
            duration_minutes=duration_minutes,
        )

    @checked
    def revoke(self, contact: str, *, confirm: bool) -> ToolResult:
        """
        Stop trusting a contact.

        Calling it twice is safe: it stays untrusted.

        Args:
            contact: The contact's E.164 number or address.
            confirm: True carries it out. False asks what would happen: ``previewed`` is true.
        """
        return self._call(_REVOKE_TRUST, contact_address=self._as_sent(contact), confirm=confirm)

    def _as_sent(self, contact: str) -> str:
        # Of the channels with numbers WhatsApp is the one that takes most ways to write a contact.
        channel = "email" if "@" in contact else "whatsapp"
        return self._agent.recipients.normalized(contact, channel)
