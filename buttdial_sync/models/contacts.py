"""Consent, trust and passcodes: what a recipient has agreed to and proved."""

from __future__ import annotations

from datetime import datetime

import attrs

from buttdial_sync.models.result import ServerResult, named


@attrs.frozen(kw_only=True)
class ConsentState(ServerResult):
    """
    What a contact has agreed to. The servers differ; what is not here is in ``raw``.

    True only where ``has_consent`` is: where the server does not say so, nobody has agreed.

    Attributes:
        has_consent: Whether messages are allowed, where the server says so.
        status: As the server says it, such as ``"granted"``, ``"revoked"`` or ``"none"``.
        contact: The contact.
        channel: The channel.
        consent_type: ``"express"``, ``"implied"`` or ``"transactional"``.
        source: Where the consent came from.
        granted_at: Since when.
        revoked_at: When it was withdrawn.
        expires_at: Until when.
    """

    has_consent: bool | None = named("hasConsent", "has_consent", "consented", "allowed")
    status: str | None = named("status", "consentStatus", "consent.status")
    contact: str | None = named("contact", "contactAddress", "contact_address")
    channel: str | None = None
    consent_type: str | None = named("consentType", "consent_type", "consent.consentType")
    source: str | None = None
    granted_at: datetime | None = named("grantedAt", "granted_at", "consent.grantedAt")
    revoked_at: datetime | None = named("revokedAt", "revoked_at", "consent.revokedAt")
    expires_at: datetime | None = None

    def __bool__(self) -> bool:
        return self.has_consent is True


@attrs.frozen(kw_only=True)
class TrustState(ServerResult):
    """
    Whether a contact is trusted. False if it is not.

    Attributes:
        trusted: False unless the server says that it is.
        status: As the server says it.
        expires_at: Until when.
        message: What the server says about it.
    """

    trusted: bool = False
    status: str | None = None
    expires_at: datetime | None = None
    message: str | None = None

    def __bool__(self) -> bool:
        return self.trusted


@attrs.frozen(kw_only=True)
class OtpVerification(ServerResult):
    """
    Whether a passcode was right. A wrong one is a normal answer, and false.

    Attributes:
        valid: Whether it was.
        reason: Why not.
    """

    valid: bool
    reason: str | None = None

    def __bool__(self) -> bool:
        return self.valid
