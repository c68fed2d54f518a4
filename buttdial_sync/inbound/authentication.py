"""Authentication of webhooks by their signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Literal, TypeAlias, TypeGuard

import attrs

from buttdial_sync.errors import ArgumentTypeError, ArgumentValueError
from buttdial_sync.inbound.decoding import decode_json
from buttdial_sync.inbound.signatures import (
    Secrets,
    is_recent,
    secrets_of,
    verify_webhook_signature,
    verify_whatsapp_signature,
)

Headers: TypeAlias = Mapping[str, str]
AccountSecret: TypeAlias = Secrets | Callable[[str], Secrets | None]
Authenticity: TypeAlias = Literal["signed", "unsigned", "refused"]

WEBHOOK_CHANNELS = frozenset({"whatsapp", "butt-dial", "account"})
SIGNATURE = "x-bd-signature"
_TIMESTAMP = "x-bd-timestamp"
_LONGEST_ID = 255


def by_lower_name(headers: Headers) -> dict[str, str]:
    """Return headers, in any letters' case, by their names in lower case."""
    return {name.lower(): value for name, value in headers.items()}


@attrs.frozen(kw_only=True)
class WebhookAuthenticator:
    """
    Checks the signatures of webhooks. Safe to share between threads.

    Attributes:
        whatsapp_secrets: WhatsApp's app secrets, one of which has to fit.
        account_secrets: The webhook secrets, or a function from a workspace's id to them.
        allow_unsigned: The channels that need no signature where there is no secret.
        now: The time in unix seconds; the clock's when None.
    """

    whatsapp_secrets: tuple[str, ...] = attrs.field(default=(), repr=False)
    account_secrets: tuple[str, ...] | Callable[[str], Secrets | None] = attrs.field(
        default=(), repr=False
    )
    allow_unsigned: frozenset[str] = frozenset()
    now: Callable[[], float] | None = attrs.field(default=None, repr=False)

    def authenticate(self, channel: str, body: bytes, headers: Headers) -> Authenticity:
        """
        Tell whether a webhook has a right signature, needs none, or must not be read.

        Args:
            channel: The channel of its address.
            body: The body's bytes as they came.
            headers: By their names in lower case.

        Raises:
            UnreadableError: The secret depends on the body, which is not JSON.
            Exception: The exception of the host's function for the secret.
        """
        if channel not in WEBHOOK_CHANNELS:
            return "refused"
        if channel == "whatsapp":
            if not self.whatsapp_secrets:
                return self._without_secret(channel)
            signature = headers.get("x-hub-signature-256")
            is_signed = verify_whatsapp_signature(body, signature, self.whatsapp_secrets)
            return "signed" if is_signed else "refused"
        signature = headers.get(SIGNATURE)
        # The open-source server does not sign messages. But if a message has a signature, it must
        # be right: otherwise a stranger's forgery would count as unsigned.
        if not self.account_secrets or (signature is None and channel == "butt-dial"):
            return self._without_secret(channel)
        timestamp = headers.get(_TIMESTAMP)
        now = None if self.now is None else self.now()
        # Before the host is asked for a secret: a stranger may make that expensive.
        if signature is None or not is_recent(timestamp, now):
            return "refused"
        is_signed = verify_webhook_signature(
            body,
            timestamp_header=timestamp,
            signature_header=signature,
            secret=self._account_secrets_for(body),
            now=now,
        )
        return "signed" if is_signed else "refused"

    def _without_secret(self, channel: str) -> Authenticity:
        return "unsigned" if channel in self.allow_unsigned else "refused"

    def _account_secrets_for(self, body: bytes) -> Secrets:
        if not callable(self.account_secrets):
            return self.account_secrets
        # Read before its signature was checked: only to look the secret up, never to act on it.
        payload = decode_json(body)
        org_id = payload.get("orgId", payload.get("org_id")) if isinstance(payload, dict) else None
        # Without a secret no signature is right.
        return self.account_secrets(org_id) or () if _may_be_an_id(org_id) else ()


def _may_be_an_id(value: object) -> TypeGuard[str]:
    """Whether a host may look for something under what a stranger says: not every text has rows."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_ID and value.isprintable()


def check_account_secrets(
    value: AccountSecret | None,
) -> tuple[str, ...] | Callable[[str], Secrets | None]:
    """
    Return the secrets of account events, or the function that has them.

    Raises:
        ArgumentTypeError: It is neither text, nor a list or tuple of texts, nor a plain function.
    """
    if inspect.iscoroutinefunction(value):
        raise ArgumentTypeError("account_webhook_secret must be a plain function, not a coroutine")
    return value if callable(value) else check_secrets(value, "account_webhook_secret")


def check_secrets(value: Secrets | None, name: str) -> tuple[str, ...]:
    """
    Return the secrets; none for an empty text, which would not protect anything.

    Raises:
        ArgumentTypeError: It is neither text nor a list or tuple of texts.
    """
    several = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(each, str) for each in several if each is not None):
        raise ArgumentTypeError(f"{name} must be text, or a list of texts")
    return secrets_of(value)


def check_secret(value: str | None, name: str) -> str | None:
    """
    Return a secret; None for an empty one.

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
