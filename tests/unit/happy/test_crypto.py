"""The crypto checks that the published SDK and happy-agent agree on, and what must not open."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from pathlib import Path
from typing import Any

import nacl.signing
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from buttdial_sync.errors import ConfigError
from buttdial_sync.happy import crypto
from buttdial_sync.happy.errors import EncryptionError

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "happy-vectors.json").read_text("utf-8")
)
DERIVED = VECTORS["key_derivation"]
BOXED = VECTORS["data_encryption_key"]
KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
CIPHERS = [crypto.DataKeyCipher, crypto.SecretCipher]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def unhex(text: str) -> bytes:
    return bytes.fromhex(text)


def in_base64(text: str) -> str:
    return base64.b64encode(unhex(text)).decode()


def test_the_number_of_checks() -> None:
    """The vectors are the 25 checks: none was lost on the way here."""
    lists = ("key_derivation_other", "aes_gcm", "secretbox", "negative")
    hmac, derivation, data_key, auth = 1, 3, 1, 1
    assert sum(len(VECTORS[each]) for each in lists) + hmac + derivation + data_key + auth == 25


def test_hmac() -> None:
    """The root of the key tree is an HMAC-SHA512."""
    vector = VECTORS["hmac_sha512"]
    root = crypto._hmac_sha512(vector["key_utf8"].encode(), unhex(vector["data"]))
    assert bytes(root) == unhex(vector["out"])


@pytest.mark.parametrize("vector", [DERIVED, *VECTORS["key_derivation_other"]])
def test_derived_keys(vector: dict[str, Any]) -> None:
    """Keys are derived along a path."""
    key = crypto.derive_key(unhex(vector["secret"]), vector["usage"], vector["path"])
    assert bytes(key) == unhex(vector["derived_key"])


def test_content_key() -> None:
    """The content key pair comes from the account secret."""
    pair = crypto.ContentKey(unhex(DERIVED["secret"]))
    assert bytes(pair._private) == unhex(DERIVED["sha512_first32_is_box_private"])
    assert crypto.encode_base64(pair.public) == DERIVED["box_public_b64"]


@pytest.mark.parametrize("vector", VECTORS["aes_gcm"])
def test_data_key_records(vector: dict[str, Any]) -> None:
    """A record with a key of its own is opened."""
    assert crypto.DataKeyCipher(unhex(vector["key"])).open(vector["bundle_b64"]) == vector["value"]


@pytest.mark.parametrize("vector", VECTORS["secretbox"])
def test_legacy_records(vector: dict[str, Any]) -> None:
    """A record under the account secret is opened."""
    assert crypto.SecretCipher(unhex(vector["key"])).open(vector["bundle_b64"]) == vector["value"]


def test_boxed_key() -> None:
    """A record's own key is unboxed, of 105 bytes with a version before them."""
    pair = crypto.ContentKey(unhex(BOXED["account_secret"]))
    assert pair.unbox(BOXED["wire_b64"]) == unhex(BOXED["data_key"])
    assert len(unhex(BOXED["wire"])) == BOXED["wire_len"] == 105


@pytest.mark.parametrize("vector", VECTORS["negative"], ids=lambda v: str(v["what"]))
@pytest.mark.parametrize("cipher", CIPHERS)
def test_what_does_not_open(vector: dict[str, Any], cipher: Any) -> None:
    """Damage and wrong keys are told, and never taken for a value."""
    with pytest.raises(EncryptionError):
        cipher(unhex(vector["key"])).open(in_base64(vector["bundle"]))


def test_the_account_secret_signs() -> None:
    """The account secret is the seed of the key that signs in: the same 32 bytes are both."""
    vector = VECTORS["auth_challenge"]
    key = nacl.signing.SigningKey(unhex(vector["seed"]))
    challenge = base64.b64decode(vector["challenge_b64"])
    assert crypto.encode_base64(key.sign(challenge).signature) == vector["signature_b64"]
    assert crypto.encode_base64(bytes(key.verify_key)) == vector["public_key_b64"]


@given(json_values)
@pytest.mark.parametrize("cipher", CIPHERS)
def test_round_trip(cipher: Any, value: Any) -> None:
    """What was sealed opens as it was, and only with its key."""
    sealed = cipher(KEY).seal(value)
    assert cipher(KEY).open(sealed) == value
    with pytest.raises(EncryptionError):
        cipher(OTHER_KEY).open(sealed)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_two_seals_differ(cipher: Any) -> None:
    """Each record has a nonce of its own."""
    assert cipher(KEY).seal({}) != cipher(KEY).seal({})


@pytest.mark.parametrize("cipher", CIPHERS)
@given(position=st.integers(0, 400), bit=st.integers(0, 7))
def test_every_bit_counts(cipher: Any, position: int, bit: int) -> None:
    """A record with one bit turned does not open."""
    sealed = bytearray(base64.b64decode(cipher(KEY).seal({"text": "hello" * 20})))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises(EncryptionError):
        cipher(KEY).open(base64.b64encode(bytes(sealed)).decode())


@pytest.mark.parametrize("sealed", ["", "!!!", "AAAA", "A", "é", None, 7, "AA=="])
@pytest.mark.parametrize("cipher", CIPHERS)
def test_what_is_no_record(cipher: Any, sealed: Any) -> None:
    """What is not base64, or too short, is an error of ours."""
    with pytest.raises(EncryptionError):
        cipher(KEY).open(sealed)


def test_opened_but_not_json() -> None:
    """What decrypts to something else than JSON is an error of ours, without the text."""
    nonce = bytes(12)
    sealed = b"\x00" + nonce + AESGCM(KEY).encrypt(nonce, b"my diary", None)
    with pytest.raises(EncryptionError, match="not JSON") as caught:
        crypto.DataKeyCipher(KEY).open(base64.b64encode(sealed).decode())
    assert caught.value.__context__ is None


@pytest.mark.parametrize("length", [0, 1, 56, 104, 106])
def test_boxed_keys_of_other_lengths(length: int) -> None:
    """Only a whole bundle is a boxed key."""
    assert crypto.ContentKey(KEY).unbox(crypto.encode_base64(bytes(length))) is None


def test_boxing() -> None:
    """A boxed key opens for its account only, and with its version only."""
    boxed = crypto.box_data_key(OTHER_KEY, crypto.ContentKey(KEY).public)
    assert crypto.ContentKey(KEY).unbox(boxed) == OTHER_KEY
    assert crypto.ContentKey(OTHER_KEY).unbox(boxed) is None
    versioned = b"\x01" + base64.b64decode(boxed)[1:]
    assert crypto.ContentKey(KEY).unbox(base64.b64encode(versioned).decode()) is None


def test_keys_are_not_shown() -> None:
    """A key is neither printed nor pickled nor copied by accident."""
    key = crypto.derive_key(KEY, "Happy EnCoder", ["content"])
    for text in (repr(key), str(key), f"{key}", repr([key]), repr(crypto.ContentKey(KEY))):
        assert bytes(key).hex() not in text
        assert repr(bytes(key)) not in text
    for spill in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickled"):
            spill(key)


@pytest.mark.parametrize("value", [object(), float("nan"), "\ud800"])
def test_values_that_json_cannot_hold(value: object) -> None:
    """Nothing is sealed that the other side could not read."""
    with pytest.raises(ConfigError):
        crypto.DataKeyCipher(KEY).seal({"value": value})
