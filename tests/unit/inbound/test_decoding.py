"""A stranger's bytes: only JSON in UTF-8, and within limits."""

from __future__ import annotations

from typing import Any

import pytest

from buttdial_sync.inbound.decoding import UnreadableError, decode_json


def nested(depth: int, inside: str = "") -> bytes:
    return ("[" * depth + inside + "]" * depth).encode()


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2.5, "x", null, true]}', {"a": [1, 2.5, "x", None, True]}),
        ("ü".encode().join([b'"', b'"']), "ü"),
        (b"9" * 64, int("9" * 64)),
        (b"[]" + b" " * 99, []),
        (b"[" + b"[]," * 99 + b"[]]", [[]] * 100),
        (b"[" + b'{"a": {}},' * 99 + b"{}]", [{"a": {}}] * 99 + [{}]),
        (b'"' + b"[" * 100 + b'"', "[" * 100),
        (b'["' + b'\\"[' * 100 + b'"]', ['"[' * 100]),
        (b'["\\\\", "' + b"{" * 100 + b'"]', ["\\", "{" * 100]),
    ],
)
def test_what_is_read(body: bytes, value: Any) -> None:
    """Many brackets are not deep yet, and those in a text do not count."""
    assert decode_json(body) == value


def test_credentials_are_masked() -> None:
    """What is handed on may be logged."""
    value = decode_json(b'{"event": "account.verified", "teamToken": "tt_secret"}')
    assert value["teamToken"] == "tt_secret"
    assert "tt_secret" not in repr(value)


def test_sixty_four_deep() -> None:
    """Deeper is not read, whether it is closed or not, nor where."""
    assert decode_json(nested(64)) is not None
    assert decode_json(nested(63, '{"a": 1}')) is not None
    assert decode_json(b"[[]," + nested(63) + b"]") is not None
    for body in (
        nested(65),
        nested(64, "{}"),
        b"[" * 65,
        b'{"a":' * 65,
        b"[[]," + nested(64) + b"]",
        b'["\\\\",' + nested(64) + b"]",
    ):
        with pytest.raises(UnreadableError, match="nested too deep"):
            decode_json(body)


def test_twenty_thousand_objects() -> None:
    """More of them would be expensive to read; those in a text are not counted."""
    assert len(decode_json(b"[" + b"{}," * 19_998 + b"{}]")) == 19_999
    assert decode_json(b'["' + b"{}" * 30_000 + b'"]') == ["{}" * 30_000]
    for body in (b"[" + b"{}," * 19_999 + b"{}]", b"[" + b"[]," * 19_999 + b"[]]", b"[]" * 20_001):
        with pytest.raises(UnreadableError, match="too many objects"):
            decode_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"x",
        b'"\xff"',
        b"NaN",
        b"[-Infinity]",
        b"9" * 65,
        b"]" * 100,
    ],
)
def test_what_is_not_read(body: bytes) -> None:
    """One kind of error for all of it; what was written is not in it."""
    with pytest.raises(UnreadableError) as raised:
        decode_json(body)
    assert str(raised.value) in {"JSONDecodeError", "UnicodeDecodeError", "ValueError"}
    assert raised.value.__cause__ is None
