"""No token in anything that is read or logged."""

from __future__ import annotations

import logging

import pytest
import requests
import responses

from buttdial_sync.errors.scrubbing import scrub
from buttdial_sync.transport.http import decoded
from buttdial_sync.transport.secrets import scrub_urls_in_logs

SECRET = "tok/s3cret+1"
QUOTED = "tok%2Fs3cret%2B1"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"GET /sse?token={QUOTED} failed", "GET /sse?token=*** failed"),
        (f"GET /x?a=1&poll_token={QUOTED}&b=2", "GET /x?a=1&poll_token=***&b=2"),
        (f"https://h/sse?TOKEN={QUOTED}'", "https://h/sse?TOKEN=***'"),
        (f"token={QUOTED}", "token=***"),
        ("/sse?token=a&token=b", "/sse?token=***&token=***"),
        ("the tokens=3 and mytoken=x stay", "the tokens=3 and mytoken=x stay"),
        ("no secret here", "no secret here"),
        ("", ""),
    ],
)
def test_tokens_in_urls(text: str, clean: str) -> None:
    """A token in a URL is masked by the name of its parameter, without being known."""
    assert scrub(text) == clean


def test_known_secrets() -> None:
    """A known secret is masked wherever it stands, as it is and percent-encoded."""
    text = f"Bearer {SECRET} at https://h/x?key={QUOTED}"
    assert scrub(text, [SECRET, None, ""]) == "Bearer *** at https://h/x?key=***"


def test_answers_are_scrubbed() -> None:
    """A server that echoes the token does not bring it into an exception."""
    assert decoded(f'{{"error": "bad {SECRET}"}}'.encode(), SECRET) == {"error": "bad ***"}
    assert decoded(f"bad {SECRET}".encode(), SECRET) == "bad ***"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"[" * 100_000, b"9" * 5000, b"NaN"])
def test_odd_answers_are_decoded(content: bytes) -> None:
    """Whatever the bytes, something comes out and nothing is raised."""
    decoded(content, None)


@pytest.mark.parametrize("name", ["token", "poll_token"])
@pytest.mark.parametrize("logger", ["urllib3.connectionpool", "urllib3.util.retry"])
def test_log_filter(name: str, logger: str, caplog: pytest.LogCaptureFixture) -> None:
    """urllib3's own debug lines are masked, in their arguments too."""
    scrub_urls_in_logs()
    scrub_urls_in_logs()
    with caplog.at_level(logging.DEBUG, logger):
        logging.getLogger(logger).debug('"GET %s" %d', f"/sse?{name}={QUOTED}", 200)
        logging.getLogger(logger).debug("plain %s", "line")
    assert "s3cret" not in caplog.text
    assert f"{name}=***" in caplog.text
    assert "plain line" in caplog.text
    assert len(logging.getLogger(logger).filters) == 1


@responses.activate
def test_header_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    """No library under us logs the Authorization header."""
    responses.get("https://h.test/x", json={})
    with caplog.at_level(logging.DEBUG):
        requests.get("https://h.test/x", headers={"Authorization": f"Bearer {SECRET}"}, timeout=5)
    assert SECRET not in caplog.text
