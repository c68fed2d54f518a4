"""The address that a stream names for the posts."""

from __future__ import annotations

import pytest

from buttdial_sync.errors import (
    AuthInvalidTokenError,
    ButtDialError,
    DeadlineExceededError,
    NotFoundError,
    ProtocolError,
)
from buttdial_sync.transport.endpoint import lost_prefix, post_url

STREAM = "https://h.test/dial/sse"
NOT_FOUND = NotFoundError("HTTP 404", status_code=404)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("/messages?sessionId=1", "https://h.test/messages?sessionId=1"),
        ("messages?sessionId=1", "https://h.test/dial/messages?sessionId=1"),
        ("https://h.test:443/m", "https://h.test:443/m"),
    ],
)
def test_relative_to_the_stream(endpoint: str, url: str) -> None:
    """As a browser would."""
    assert post_url(STREAM, endpoint) == url


@pytest.mark.parametrize(
    "endpoint", ["https://evil.test/m", "http://h.test/m", "//x/m", "http://["]
)
def test_other_origins(endpoint: str) -> None:
    """The token does not go there."""
    with pytest.raises(ProtocolError, match="another origin"):
        post_url(STREAM, endpoint)


def test_lost_prefix() -> None:
    """Both paths are named, and what the first post ended with."""
    found = lost_prefix(STREAM, "https://h.test/messages?sessionId=1", NOT_FOUND)
    assert isinstance(found, ProtocolError)
    assert found.message == (
        "the server names /messages for posts, which is not below /dial of base_url: HTTP 404"
    )
    assert (found.stage, found.status_code) == ("session", 404)
    assert "pass /messages on" in str(found.remediation)


@pytest.mark.parametrize(
    ("stream", "url", "error"),
    [
        ("https://h.test/sse", "https://h.test/messages", NOT_FOUND),
        ("https://h.test/sse", "https://h.test", NOT_FOUND),
        (STREAM, "https://h.test/dial/messages", NOT_FOUND),
        (STREAM, "https://h.test/messages", AuthInvalidTokenError("no", status_code=401)),
        (STREAM, "https://h.test/messages", DeadlineExceededError("slow")),
    ],
    ids=["no prefix", "no path", "below it", "the token is refused", "no answer"],
)
def test_other_reasons(stream: str, url: str, error: ButtDialError) -> None:
    """Where the address is right, or the server itself answers, the prefix is not to blame."""
    assert lost_prefix(stream, url, error) is None


def test_only_a_whole_part_is_below() -> None:
    """/dialogue is not below /dial."""
    assert lost_prefix(STREAM, "https://h.test/dialogue/m", NOT_FOUND) is not None
