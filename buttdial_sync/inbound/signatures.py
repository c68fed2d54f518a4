"""Signatures over the bytes as they came, compared in constant time."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Sequence
from typing import TypeAlias, TypeGuard

from buttdial_sync.errors.scrubbing import Secret

Secrets: TypeAlias = str | Sequence[str]
"""A secret, or several while one replaces the other."""

_BUTT_DIAL_PREFIX = "hmac-sha256="
_WHATSAPP_PREFIX = "sha256="
_TOLERANCE = 300.0
_UNIX_SECONDS = re.compile(r"(?:0|[1-9][0-9]{0,14})", re.ASCII)


def verify_webhook_signature(
    raw_body: bytes,
    *,
    timestamp_header: str | None,
    signature_header: str | None,
    secret: Secrets,
    tolerance_seconds: float = _TOLERANCE,
    now: float | None = None,
) -> bool:
    """
    Tell whether a webhook was signed by Butt-Dial, and lately. Safe to share between threads.

    It raises nothing for whatever a stranger sends. A delivery may still be a repetition: see
    :class:`~buttdial_sync.DeliveryLog`.

    Args:
        raw_body: The body's bytes as they came; JSON that was decoded and encoded again has another
            signature.
        timestamp_header: ``X-BD-Timestamp``: unix seconds.
        signature_header: ``X-BD-Signature``: ``hmac-sha256=`` and 64 hex digits.
        secret: The ``webhook_secret`` that registering returned; or several, of which one has to
            fit, while a new one replaces the old.
        tolerance_seconds: Older or more in the future than this is refused, in seconds.
        now: The time in unix seconds; the clock's when None.

    Returns:
        True if the signature is right and fresh; False for all else, malformed input included.
    """
    if is_recent(timestamp_header, now, tolerance_seconds):
        head = timestamp_header.encode() + b"."
        return _is_signed(signature_header, _BUTT_DIAL_PREFIX, secret, head, raw_body)
    return False


def is_recent(
    timestamp_header: str | None, now: float | None, tolerance_seconds: float = _TOLERANCE
) -> TypeGuard[str]:
    """Tell whether a timestamp is one, and recent; as :func:`verify_webhook_signature` does."""
    if not isinstance(timestamp_header, str) or not _UNIX_SECONDS.fullmatch(timestamp_header):
        return False
    current = time.time() if now is None else now
    # Not by `>`: NaN would be recent.
    return abs(current - int(timestamp_header)) <= tolerance_seconds


def verify_whatsapp_signature(
    raw_body: bytes, signature_header: str | None, secret: Secrets
) -> bool:
    """
    Tell whether a webhook was signed by WhatsApp. Raises nothing; safe to share between threads.

    Args:
        raw_body: The body's bytes as they came.
        signature_header: ``X-Hub-Signature-256``: ``sha256=`` and 64 hex digits.
        secret: The app secret, or several, of which one has to fit.

    Returns:
        True if the signature is right; False for all else, malformed input included.
    """
    return _is_signed(signature_header, _WHATSAPP_PREFIX, secret, b"", raw_body)


def sign_webhook(raw_body: bytes, timestamp: int, secret: str) -> str:
    """Return the ``X-BD-Signature`` of a body."""
    return _BUTT_DIAL_PREFIX + _digest(secret, f"{timestamp}.".encode(), raw_body)


def sign_whatsapp(raw_body: bytes, secret: str) -> str:
    """Return the ``X-Hub-Signature-256`` of a body."""
    return _WHATSAPP_PREFIX + _digest(secret, b"", raw_body)


def same_secret(given: object, wanted: str | None) -> bool:
    """Compare in constant time; nothing is the same as no secret."""
    if not wanted or not isinstance(given, str):
        return False
    return hmac.compare_digest(_bytes(given), _bytes(wanted))


def _is_signed(header: object, prefix: str, secrets: object, head: bytes, body: object) -> bool:
    if not isinstance(header, str) or not isinstance(body, bytes | bytearray | memoryview):
        return False
    return any(
        hmac.compare_digest(_bytes(header), _bytes(prefix + _digest(secret, head, body)))
        for secret in secrets_of(secrets)
    )


def secrets_of(given: object) -> tuple[str, ...]:
    """Return the secrets that could protect something: no empty ones, and text only."""
    several = given if isinstance(given, list | tuple) else [given]
    return tuple(Secret(each) for each in several if isinstance(each, str) and each)


def _digest(secret: str, head: bytes, body: bytes | bytearray | memoryview) -> str:
    return hmac.digest(_bytes(secret), b"".join((head, body)), "sha256").hex()


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")
