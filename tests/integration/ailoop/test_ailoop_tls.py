"""A server with a certificate of its own, for the requests and for the WebSockets."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from buttdial_sync.ailoop import AiloopClient, AiloopConfigError, AiloopError
from buttdial_sync.testing import FakeAiloopServer
from tests.integration.ailoop.conftest import PATIENT

CERTIFICATE = Path(__file__).parents[1] / "doctor/self_signed.pem"


@pytest.fixture
def tls_server(new_server: FakeAiloopServer, monkeypatch: pytest.MonkeyPatch) -> FakeAiloopServer:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    assert new_server._listener is not None
    new_server._listener.socket = context.wrap_socket(new_server._listener.socket, server_side=True)
    return new_server


def test_own_certificates(tls_server: FakeAiloopServer) -> None:
    """One option for both ways; without it nothing is sent."""
    tls_server.approves()
    url = tls_server.url.replace("http:", "https:")
    with AiloopClient(
        url, token="t", ca_bundle=CERTIFICATE, timeout=PATIENT, accept_timeout=PATIENT
    ) as client:
        assert client.authorize("Deploy")
        assert client.channels()
    assert (tls_server.websocket_connections, tls_server.http_connections) == (1, 1)
    tls_server.requests.clear()
    with AiloopClient(url, token="t", timeout=PATIENT, max_attempts=1) as client:
        for call in (client.channels, lambda: client.say("hello")):
            with pytest.raises(AiloopError) as caught:
                call()
            assert (caught.value.code, caught.value.outcome) == ("TLS", "not_sent")
    assert tls_server.requests == []


def test_wrong_certificates(tmp_path: Path) -> None:
    """A path without any, and an address without TLS."""
    with pytest.raises(AiloopConfigError, match="ca_bundle"):
        AiloopClient("https://ailoop.example", ca_bundle=tmp_path / "none.pem")
    with pytest.raises(AiloopConfigError, match="TLS"):
        AiloopClient("http://ailoop.example", ca_bundle=CERTIFICATE)
