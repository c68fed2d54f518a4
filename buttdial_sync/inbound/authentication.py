"""Authentication of webhooks by their signatures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import attrs

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError
from buttdial_sync.inbound.decoding import decode_json
from buttdial_sync.inbound.signatures import verify_webhook_signature, verify_whatsapp_signature

logger = logging.getLogger("buttdial_sync.inbound")

Headers: TypeAlias = Mapping[str, str]
AccountSecret: TypeAlias = str | Callable[[str], str | None]

WEBHOOK_CHANNELS = frozenset({"whatsapp", "butt-dial", "account"})
_SIGNATURE = "x-bd-signature"
_TIMESTAMP = "x-bd-timestamp"


def header(headers: Headers, name: str) -> str | None:
    """Return a header whatever its letters' case; ``name`` is in lower case."""
    value = headers.get(name)
    if value is None:
        value = next((v for k, v in headers.items() if k.lower() == name), None)
    return value


@attrs.frozen(kw_only=True)
class WebhookAuthenticator:
    """
    Checks the signatures of webhooks. Safe to share between threads.

    Attributes:
        whatsapp_secret: WhatsApp's app secret.
        account_secret: The webhook secret, or a function from a workspace's id to it.
        allow_unsigned: The channels that need no signature where there is no secret.
        now: The time in unix seconds; the clock's when None.
    """

    whatsapp_secret: str | None = attrs.field(default=None, repr=False)
    account_secret: AccountSecret | None = attrs.field(default=None, repr=False)
    allow_unsigned: frozenset[str] = frozenset()
    now: Callable[[], float] | None = attrs.field(default=None, repr=False)

    def authenticates(self, channel: str, body: bytes, headers: Headers) -> bool:
        """
        Tell whether a webhook may be read: its signature is right, or none is needed.

        Raises:
            UnreadableError: The secret depends on the body, which is not JSON.
            Exception: The exception of the host's function for the secret.
        """
        if channel == "whatsapp":
            return self._authenticates_whatsapp(body, headers)
        if channel not in WEBHOOK_CHANNELS:
            return False
        signature = header(headers, _SIGNATURE)
        # The open-source server does not sign messages. But if a message has a signature, it must
        # be right: otherwise a stranger's forgery would count as unsigned.
        if self.account_secret is None or (signature is None and channel == "butt-dial"):
            return channel in self.allow_unsigned
        timestamp = header(headers, _TIMESTAMP)
        if signature is None or timestamp is None:
            return False
        return verify_webhook_signature(
            body,
            timestamp_header=timestamp,
            signature_header=signature,
            secret=self._account_secret_for(body) or "",  # no secret: no signature is right
            now=None if self.now is None else self.now(),
        )

    def _authenticates_whatsapp(self, body: bytes, headers: Headers) -> bool:
        if self.whatsapp_secret is None:
            return "whatsapp" in self.allow_unsigned
        signature = header(headers, "x-hub-signature-256")
        return verify_whatsapp_signature(body, signature, self.whatsapp_secret)

    def _account_secret_for(self, body: bytes) -> str | None:
        if not callable(self.account_secret):
            return self.account_secret
        # Read before its signature was checked: only to look the secret up, never to act on it.
        payload = decode_json(body)
        org_id = payload.get("orgId", payload.get("org_id")) if isinstance(payload, dict) else None
        return self.account_secret(org_id) if isinstance(org_id, str) and org_id else None


def check_secret(value: str | None, name: str) -> str | None:
    """
    Return a secret; None for an empty one, which would not protect anything.

    Raises:
        ArgumentTypeError: It is not text.
    """
    if value is not None and not isinstance(value, str):
        raise ArgumentTypeError(f"{name} must be text")
    return value or None


def check_unsigned(allow_unsigned: Collection[str]) -> frozenset[str]:
    """
    Return the channels as a set.

    Raises:
        ArgumentTypeError: It is one text, whose letters would be taken for channels.
        ArgumentValueError: There is no such channel.
    """
    if isinstance(allow_unsigned, str):
        raise ArgumentTypeError("allow_unsigned must be a collection of channels, not one text")
    unknown = set(allow_unsigned) - WEBHOOK_CHANNELS
    if unknown:
        raise ArgumentValueError(
            f"allow_unsigned names {sorted(map(str, unknown))}: "
            f"only {sorted(WEBHOOK_CHANNELS)} exist"
        )
    return frozenset(allow_unsigned)
