"""A workspace on its way from registration to its first token."""

from __future__ import annotations

from datetime import datetime

import attrs

from buttdial_sync.models.converter import Identifier
from buttdial_sync.models.credentials import team_token_field
from buttdial_sync.models.result import ServerResult


@attrs.frozen(kw_only=True)
class Registration(ServerResult):
    """
    A workspace that waits for its owner to follow the link in the mail.

    Attributes:
        org_id: The workspace.
        verification_sent: Whether the mail went out.
        poll_token: For ``verification_status`` and ``abandon_org``.
        webhook_secret: Checks the webhooks' signatures. It comes with ``webhook_url`` only, and
            only this once: keep it.
    """

    org_id: Identifier
    verification_sent: bool | None = None
    poll_token: str | None = attrs.field(default=None, repr=False)
    webhook_secret: str | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class VerificationSent(ServerResult):
    """
    Whether a mail went out. False unless the server says so.

    Attributes:
        verification_sent: Whether it did. Servers say so for addresses that they don't know, too.
    """

    verification_sent: bool | None = None

    def __bool__(self) -> bool:
        return self.verification_sent is True


@attrs.frozen(kw_only=True)
class VerificationStatus(ServerResult):
    """
    How far the verification got. False until it is done.

    Attributes:
        status: ``"pending"`` or ``"verified"``.
        verified: Whether it is done.
        verified_at: When it was.
    """

    status: str
    verified: bool | None = None
    verified_at: datetime | None = None

    def __bool__(self) -> bool:
        return self.status == "verified"


@attrs.frozen(kw_only=True)
class TeamCredentials(ServerResult):
    """
    A workspace's token. The server gives it out once: keep it.

    Attributes:
        team_token: The token.
        org_id: The workspace, where the server names it.
        org_name: Its name, where the server says it.
        scopes: What the token may do.
        rotated: Whether an older token ended with this answer.
    """

    team_token: str = team_token_field()
    org_id: Identifier | None = None
    org_name: str | None = None
    scopes: list[str] | None = None
    rotated: bool | None = None


@attrs.frozen(kw_only=True)
class AbandonedOrg(ServerResult):
    """
    Whether a registration was given up. False unless the server says so.

    Attributes:
        deleted: Whether the workspace is gone.
        org_id: Which one.
    """

    deleted: bool | None = None
    org_id: Identifier | None = None

    def __bool__(self) -> bool:
        return self.deleted is True
