"""A workspace: its account, its members, its phone, its end."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import attrs

from buttdial_sync.models.converter import Identifier
from buttdial_sync.models.result import ServerResult


@attrs.frozen(kw_only=True)
class Account(ServerResult):
    """
    A workspace's account.

    Attributes:
        org_id: The workspace.
        name: Its name.
        owner_email: Its owner's address.
        owner_phone_hint: The last digits of its owner's phone, or None.
        mode: ``"sandbox"`` or ``"live"``.
        created_at: Since when it exists.
        status: As the server says it.
    """

    org_id: Identifier
    name: str | None = None
    owner_email: str | None = None
    owner_phone_hint: str | None = None
    mode: str | None = None
    created_at: datetime | None = None
    status: str | None = None


@attrs.frozen(kw_only=True)
class Membership(ServerResult):
    """
    One workspace that a user belongs to.

    Attributes:
        org_id: The workspace.
        org_name: Its name.
        role: What the user is there.
        added_at: Since when.
    """

    org_id: Identifier
    org_name: str | None = None
    role: str | None = None
    added_at: datetime | None = None


@attrs.frozen(kw_only=True)
class Memberships(ServerResult):
    """
    All workspaces of a user. It has a length and can be iterated over; false when empty.

    Attributes:
        email: The user.
        memberships: The workspaces.
    """

    email: str | None = None
    memberships: list[Membership] = attrs.field(factory=list)

    def __len__(self) -> int:
        return len(self.memberships)

    def __iter__(self) -> Iterator[Membership]:
        return iter(self.memberships)


@attrs.frozen(kw_only=True)
class PhoneChallenge(ServerResult):
    """
    A passcode that is on its way to a phone.

    Attributes:
        challenge_id: For the confirmation.
        phone_hint: The last digits of the phone, where the server says them.
        expires_at: Until when the passcode is good, where the server says it.
    """

    challenge_id: Identifier
    phone_hint: str | None = None
    expires_at: datetime | None = None


@attrs.frozen(kw_only=True)
class ConfirmedPhone(ServerResult):
    """
    Whether a phone belongs to the workspace now. False unless the server says so.

    Attributes:
        ok: Whether it does.
        phone_hint: Its last digits.
    """

    ok: bool | None = None
    phone_hint: str | None = None

    def __bool__(self) -> bool:
        return self.ok is True


@attrs.frozen(kw_only=True)
class ErasureRequest(ServerResult):
    """
    An erasure that its owner has to confirm.

    Attributes:
        erasure_request_id: Its id.
        expires_at: Until when it can be confirmed.
        message: What the server says about it.
    """

    erasure_request_id: Identifier
    expires_at: datetime | None = None
    message: str | None = None
