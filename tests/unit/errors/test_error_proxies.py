"""Which refusals are a proxy's or a gateway's, and not Butt-Dial's."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from buttdial_sync.errors import (
    AuthInvalidTokenError,
    ButtDialError,
    PermissionDeniedError,
    TransportError,
    error_from_response,
)
from buttdial_sync.errors.answers import Exchange

PAGE = "<html><body>401 Unauthorized</body></html>"
BEARER = {"WWW-Authenticate": 'Bearer realm="butt-dial"'}


@pytest.mark.parametrize("exchange", ["stream", "message", "rest"])
@pytest.mark.parametrize("body", [PAGE, f"\n {PAGE}", "", " \n"])
@pytest.mark.parametrize("status", [401, 403, 407])
def test_pages(status: int, body: str, exchange: Exchange) -> None:
    """Butt-Dial refuses in words; the token is not to blame."""
    error = error_from_response(status, body, exchange=exchange)
    assert (type(error), error.code, error.stage) == (TransportError, "PROXY", "transport")
    assert (error.status_code, error.body, error.retryable) == (status, body, False)
    assert f"HTTP {status}" in str(error)
    assert "It is not Butt-Dial" in str(error.remediation)
    nothing_done = exchange == "stream" or status == 407
    assert error.outcome == ("not_sent" if nothing_done else "unknown")


@pytest.mark.parametrize(
    "body", [{"message": "login"}, {"error": "login first"}, "Proxy login required"]
)
def test_login_at_a_proxy(body: object) -> None:
    """407 is a proxy's whatever it says; it passes nothing on before the login."""
    error = error_from_response(407, body, BEARER, exchange="rest")
    assert (error.code, error.outcome) == ("PROXY", "not_sent")


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind"),
    [
        (401, "Invalid or revoked token", {}, AuthInvalidTokenError),
        (401, {"error": "Invalid token"}, {}, AuthInvalidTokenError),
        (401, "", BEARER, AuthInvalidTokenError),
        (401, PAGE, {"www-authenticate": "bearer"}, AuthInvalidTokenError),
        (403, {"error": "not yours"}, {}, PermissionDeniedError),
        (403, "Auth error: not yours", {}, PermissionDeniedError),
    ],
)
def test_the_servers_own(
    status: int, body: object, headers: Mapping[str, str], kind: type[ButtDialError]
) -> None:
    """What asks for a bearer, or has words, is about the token."""
    assert type(error_from_response(status, body, headers)) is kind


@pytest.mark.parametrize("status", [400, 404, 502])
def test_other_pages(status: int) -> None:
    """They say nothing about a login."""
    assert error_from_response(status, PAGE).code != "PROXY"
