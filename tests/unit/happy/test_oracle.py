"""The published SDK as an oracle: what one side seals, the other opens."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from buttdial_sync.happy import crypto

VALUES = 1_000
PLAIN = ("", "text", "é☃😀", "\x00\x1f", 0, -1, 2**53, 1.5, None, True, False, '\\"/\n')


@pytest.fixture(scope="module")
def published() -> Any:
    try:
        from happy_sdk import encryption
    except ImportError:
        pytest.skip("needs happy-engineering-sdk==0.7.0, which needs Python 3.11")
    return encryption


def generated(source: random.Random, depth: int = 3) -> Any:
    kind = source.randrange(4) if depth else 3
    if kind == 0:
        return [generated(source, depth - 1) for _ in range(source.randrange(4))]
    if kind == 1:
        names = ("role", "content", "ev", "", "ключ")
        return {source.choice(names): generated(source, depth - 1) for _ in range(3)}
    return source.choice(PLAIN)


@pytest.mark.parametrize(
    ("cipher", "variant"), [(crypto.DataKeyCipher, "dataKey"), (crypto.SecretCipher, "legacy")]
)
def test_records_both_ways(published: Any, cipher: Any, variant: str) -> None:
    """1,000 generated values survive both ways, and come back as JSON would bring them."""
    source = random.Random(16)
    for _ in range(VALUES):
        key, value = source.randbytes(32), generated(source)
        expected = json.loads(json.dumps(value))
        ours = published.decode_base64(cipher(key).seal(value))
        assert published.decrypt(key, variant, ours) == expected
        theirs = published.encode_base64(published.encrypt(key, variant, value))
        assert cipher(key).open(theirs) == expected


def test_keys_both_ways(published: Any) -> None:
    """1,000 secrets give the same pair of keys, and boxed keys open on either side."""
    source = random.Random(17)
    for number in range(VALUES):
        secret, key = source.randbytes(32), source.randbytes(32)
        ours = crypto.ContentKey(secret)
        public, private = published.derive_content_key_pair(secret)
        assert (ours.public, bytes(ours._private)) == (public, private)
        path = ["content", str(number)]
        assert crypto.derive_key(secret, "Happy", path) == published.derive_key(
            secret, "Happy", path
        )
        boxed = published.decode_base64(crypto.box_data_key(key, ours.public))
        assert published.decrypt_box_bundle(boxed[1:], private) == key
        theirs = b"\x00" + published.encrypt_for_public_key(key, public)
        assert ours.unbox(published.encode_base64(theirs)) == key
