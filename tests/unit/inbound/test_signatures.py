"""Who wrote it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buttdial_sync import verify_webhook_signature
from buttdial_sync.inbound.signatures import (
    same_secret,
    sign_webhook,
    sign_whatsapp,
    verify_whatsapp_signature,
)
from tests.unit.inbound.vectors import COUNT, NOW, VERDICTS, sign, vectors

# A timestamp that is not written as servers write it, and a signature with a blank behind it.
STRICTER = {"odd timestamp", "padded signature"}
# The signature is over bytes, so that a body need not be text to be signed.
OVER_BYTES = {"no utf-8"}


def verdict_on(each: object) -> bool:
    return verify_webhook_signature(
        each.body,  # type: ignore[attr-defined]
        timestamp_header=each.timestamp,  # type: ignore[attr-defined]
        signature_header=each.signature,  # type: ignore[attr-defined]
        secret=each.secret,  # type: ignore[attr-defined]
        now=NOW,
    )


def test_the_peers_verdicts() -> None:
    """1,000 vectors: the verdict of the published SDK, which we never exceed but for raw bytes."""
    seen: set[str] = set()
    for each, peer in zip(vectors(), VERDICTS, strict=True):
        ours = verdict_on(each)
        seen.add(f"{each.kind}:{ours}")
        if each.kind in STRICTER:
            assert not ours
        elif each.kind in OVER_BYTES:
            assert ours
            assert peer == "F"
        else:
            assert ours == (peer == "T"), each
    assert len(VERDICTS) == COUNT
    assert {"good:True", "aged:True", "aged:False", "malformed:False"} <= seen


@pytest.mark.parametrize("secret", [5, b"x", [5], (b"x", None)], ids=str)
def test_a_secret_that_is_not_text(secret: Any) -> None:
    """It is not turned into one: a stranger could guess that."""
    for guessed in ("5", "x", "b'x'", "None"):
        assert not verify_webhook_signature(
            b"{}",
            timestamp_header=str(int(NOW)),
            signature_header=sign_webhook(b"{}", int(NOW), guessed),
            secret=secret,
            now=NOW,
        )


@pytest.mark.parametrize(("age", "good"), [(0, True), (300, True), (301, False), (-301, False)])
def test_tolerance(age: int, good: bool) -> None:
    """Five minutes old is good, a second more is not, nor is the future."""
    timestamp = str(int(NOW) - age)
    assert good is verify_webhook_signature(
        b"{}",
        timestamp_header=timestamp,
        signature_header=sign("s", timestamp, b"{}"),
        secret="s",
        now=NOW,
    )


@pytest.mark.parametrize("now", [math.nan, math.inf])
def test_a_clock_that_is_none(now: float) -> None:
    """Nothing is fresh by a clock that does not know the time."""
    timestamp = str(int(NOW))
    assert not verify_webhook_signature(
        b"", timestamp_header=timestamp, signature_header=sign("s", timestamp, b""), secret="s",
        now=now,
    )  # fmt: skip


def test_own_signatures() -> None:
    """What we sign is verified; the clock is the default."""
    import time

    now = int(time.time())
    assert verify_webhook_signature(
        b"\xff",
        timestamp_header=str(now),
        signature_header=sign_webhook(b"\xff", now, "ü"),
        secret="ü",
    )
    assert verify_whatsapp_signature(b"\xff", sign_whatsapp(b"\xff", "ü"), "ü")


@given(st.text() | st.none(), st.text() | st.none(), st.text(), st.binary())
def test_nothing_is_raised(
    timestamp: str | None, header: str | None, key: str, body: bytes
) -> None:
    """Whatever a stranger sends is False."""
    assert not verify_webhook_signature(
        body, timestamp_header=timestamp, signature_header=header, secret=key, now=NOW
    )
    assert not verify_whatsapp_signature(body, header, key)


@pytest.mark.parametrize("wrong", [None, 1, b"x", ["x"]])
def test_wrong_types(wrong: object) -> None:
    """Arguments that are no text or no bytes are malformed, not an error."""
    given_types: dict[str, object] = {"timestamp_header": "1", "signature_header": "x"}
    for name in given_types:
        values = {**given_types, name: wrong}
        assert not verify_webhook_signature(b"", secret="s", now=1, **values)  # type: ignore[arg-type]
    assert not verify_webhook_signature(
        "text",  # type: ignore[arg-type]
        timestamp_header="1",
        signature_header=sign("s", "1", b"text"),
        secret="s",
        now=1,
    )
    assert not verify_whatsapp_signature(b"", wrong, "s")  # type: ignore[arg-type]
    assert not verify_whatsapp_signature(b"", "sha256=", wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_bytes(kind: Any) -> None:
    """A body is checked in whatever a server keeps it."""
    body, now = b'{"text": "Gr\xc3\xbc\xc3\x9fe"}', 1_700_000_000
    assert verify_whatsapp_signature(kind(body), sign_whatsapp(body, "s"), "s")
    assert not verify_whatsapp_signature(kind(body + b" "), sign_whatsapp(body, "s"), "s")
    assert verify_webhook_signature(
        kind(body),
        timestamp_header=str(now),
        signature_header=sign_webhook(body, now, "s"),
        secret="s",
        now=now,
    )


def test_same_secret() -> None:
    """No secret is the same as none."""
    assert same_secret("ä", "ä")
    assert not same_secret("", "")
    assert not same_secret(None, None)
    assert not same_secret("a", "b")
    for wrong in (None, 5, b"a", ["a"]):
        assert not same_secret(wrong, "a")


@pytest.mark.parametrize(
    ("timestamp", "good"),
    [("0", True), ("9" * 15, True), ("9" * 16, False), ("1", True), ("01", False), ("-1", False)],
)
def test_limits_of_the_timestamp(timestamp: str, good: bool) -> None:
    """Up to fifteen digits, without zeros in front, however far away the tolerance reaches."""
    assert good is verify_webhook_signature(
        b"{}",
        timestamp_header=timestamp,
        signature_header=sign("s", timestamp, b"{}"),
        secret="s",
        tolerance_seconds=1e17,
        now=NOW,
    )


@pytest.mark.parametrize(("age", "good"), [(-300, True), (300.5, False), (-300.5, False)])
def test_tolerance_to_the_second(age: float, good: bool) -> None:
    """The future is as good as the past, and half a second more is too much."""
    timestamp = str(int(NOW))
    assert good is verify_webhook_signature(
        b"{}",
        timestamp_header=timestamp,
        signature_header=sign("s", timestamp, b"{}"),
        secret="s",
        now=int(NOW) + age,
    )


def test_an_empty_secret_signs_nothing() -> None:
    """Anybody could make such a signature, so it is never right."""
    timestamp = str(int(NOW))
    assert not verify_webhook_signature(
        b"{}",
        timestamp_header=timestamp,
        signature_header=sign("", timestamp, b"{}"),
        secret="",
        now=NOW,
    )
    assert not verify_whatsapp_signature(b"{}", sign_whatsapp(b"{}", ""), "")
