"""Secrets are taken out of everything that a person or a log may read."""

from __future__ import annotations

from typing import Any

import pytest

from buttdial_sync import ButtDialError
from buttdial_sync.errors import error_from_response
from buttdial_sync.errors.scrubbing import (
    Secret,
    SecretBytes,
    is_secret,
    masked,
    masked_items,
    scrub,
    scrub_error,
    secrets_in,
    storable,
)


@pytest.mark.parametrize(
    ("text", "secrets", "scrubbed"),
    [
        ("with s3cret here", ["s3cret"], "with *** here"),
        ("s3cret and other, s3cret", [None, "", "s3cret", "other"], "*** and ***, ***"),
        ("at /a%2Fb%20c and a/b c", ["a/b c"], "at /*** and ***"),
        ("four 1234", ["1234"], "four ***"),
        ("three 123", ["123"], "three 123"),
        ("https://x/sse?token=abc&y=1", [], "https://x/sse?token=***&y=1"),
        ("https://x/sse?y=1&TOKEN=abc", [], "https://x/sse?y=1&TOKEN=***"),
        ("?poll_token=abc def", [], "?poll_token=*** def"),
        ("token=abc", [], "token=***"),
        ("got token=abc'", [], "got token=***'"),
        ('"/sse?token=abc"', [], '"/sse?token=***"'),
        ("a broken=token", [], "a broken=token"),
    ],
)
def test_a_text(text: str, secrets: list[str | None], scrubbed: str) -> None:
    """Known secrets and tokens in a query go; what is too short to hide anything stays."""
    assert scrub(text, secrets) == scrubbed


@pytest.mark.parametrize("name", ["token", "teamToken", "team_token", "secret", "OTP", "passcode"])
def test_names_of_secrets(name: str) -> None:
    """The end of the name counts, in any writing."""
    assert is_secret(name)
    assert not is_secret(f"{name}s_left")


def test_an_error() -> None:
    """Its text, its advice and its body are scrubbed, however deep; all else stays as it is."""
    error = ButtDialError(
        "refused s3cret",
        remediation="replace s3cret",
        body={
            "teamToken": "new",
            "token": {"of": ["s3cret", {"value": "new"}], "left": 3, "ok": True},
            "echo": ["s3cret", None, {"password": "x"}],
            "to": "Ann",
        },
    )
    scrub_error(error, ["s3cret"])
    assert error.args == ("refused ***",)
    assert error.remediation == "replace ***"
    assert error.body == {
        "teamToken": "***",
        "token": {"of": ["***", {"value": "***"}], "left": 3, "ok": True},
        "echo": ["***", None, {"password": "***"}],
        "to": "Ann",
    }


def test_an_error_without_advice() -> None:
    """What an error does not have it does not get."""
    error = ButtDialError("no")
    scrub_error(error, ["s3cret"])
    assert (error.args, error.remediation, error.body) == (("no",), None, None)


def test_one_secret_begins_with_another() -> None:
    """Nothing of the longer one stays, in whichever order they are given."""
    short, long = "token-1", "token-1-of-two"
    for secrets in ([short, long], [long, short]):
        assert scrub(f"{long} {short}", secrets) == "*** ***"


def test_numbers_that_are_secrets() -> None:
    """A passcode that the server repeats as a number is masked too."""
    error = ButtDialError("no", body={"otp": 123456, "attempts": 3, "hasToken": True})
    scrub_error(error, [])
    assert error.body == {"otp": "***", "attempts": 3, "hasToken": True}


@pytest.mark.parametrize("depth", [600, 900])
def test_a_body_that_is_nested_too_deeply(depth: int) -> None:
    """It is given up: an error of ours must not end in a RecursionError."""
    body: object = "tok_secret"
    for _ in range(depth):
        body = [{"deep": body}]
    error = error_from_response(400, {"error": "no", "more": body})
    scrub_error(error, ["tok_secret"])
    assert (str(error), error.body) == ("no", None)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("s3cret", "'***'"),
        ({"https": "s3cret", "deep": ["s3cret", 1]}, "{'https': '***', 'deep': ['***', 1]}"),
        (["s3cret", None], "['***', None]"),
        (("s3cret",), "['***']"),
        (5, "5"),
        (None, "None"),
        (b"as it is", "b'as it is'"),
    ],
    ids=repr,
)
def test_masked(value: Any, shown: str) -> None:
    """A page that shows local variables shows no text; the value itself is the same."""
    found = masked(value)
    assert repr(found) == shown
    assert found == (list(value) if isinstance(value, tuple) else value)


def test_masked_items() -> None:
    """Only what is a secret by its name."""
    values = {"agent_token": "s3cret", "password": ["s3cret"], "to": "Ann"}
    assert masked_items(values) == values
    assert repr(masked_items(values)) == (
        "{'agent_token': '***', 'password': ['***'], 'to': 'Ann'}"
    )


def test_masked_items_inside() -> None:
    """What a host passes on as it is may have its secrets anywhere."""
    values = {"extra": {"authToken": "s3cret", "list": [{"otp": "s3cret"}], 5: "x"}, "to": ("a",)}
    assert masked_items(values) == values
    assert "s3cret" not in repr(masked_items(values))
    values["extra"]["list"].append(values)  # type: ignore[index]
    assert masked_items(values)["to"] == ("a",)


def test_secrets_in_arguments() -> None:
    """What stands under a secret's name, and what is masked already, however deep."""
    values = {
        "credentials": {"sid": "s3c-1", "keys": ["s3c-2", 5]},
        "list": [{"authToken": "s3c-3"}, Secret("s3c-4")],
        "to": "Ann",
        "password": None,
    }
    assert list(secrets_in(values)) == ["s3c-1", "s3c-2", "s3c-3", "s3c-4"]


def test_bytes_that_hold_a_secret() -> None:
    """They are sent as they are, and not shown."""
    body = SecretBytes(b"token=s3cret")
    assert (bytes(body), repr(body)) == (b"token=s3cret", "b'***'")


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("h\xe9 \U0001f600", "h\xe9 \U0001f600"),
        ("nul \0 here", "nul \ufffd here"),
        ("half \ud83d of one", "half \ufffd of one"),
        ("both \ud83d\ude00 and \0", "both \U0001f600 and \ufffd"),
        ("", ""),
    ],
    ids=ascii,
)
def test_storable(text: str, stored: str) -> None:
    """What databases refuse is replaced; two halves that make one character are joined."""
    assert storable(text) == stored
