"""tinyproxy between the client and the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import AccountsClient, Client, TransportError
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.integration.client.test_network_options import CERTIFICATE, over_tls
from tests.integration.proxies.running import PATIENCE, tinyproxy

pytestmark = pytest.mark.slow

TO = "+14155550123"
WITH_LOGIN = "BasicAuth somebody geheim"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        yield loopback


def options_of(proxy: str, login: str = "") -> dict[str, Any]:
    address = proxy.replace("http://", f"http://{login}")
    return {
        "proxies": {"http": address, "https": address},
        "ca_bundle": CERTIFICATE,
        "timeout": PATIENCE,
        "sleep": lambda _: None,
    }


def url_of(server: LoopbackServer, scheme: str) -> str:
    return over_tls(server, wants_client=False) if scheme == "https" else server.base_url


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_login(scheme: str, server: LoopbackServer, tmp_path: Path) -> None:
    """With the right one everything passes, streams included."""
    url = url_of(server, scheme)
    with tinyproxy(tmp_path, WITH_LOGIN) as proxy:
        options = options_of(proxy, "somebody:geheim@")
        with Client(url, agent_token="t", **options) as client:
            for number in range(5):
                assert client.send_message(TO, f"No. {number}").ok
        with AccountsClient(url, team_token="t", **options) as accounts:
            assert accounts.get_account().org_id
    assert len(server.fake.delivered) == 5


@pytest.mark.parametrize("login", ["", "somebody:wrong@"], ids=["none", "wrong"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_refused_login(scheme: str, login: str, server: LoopbackServer, tmp_path: Path) -> None:
    """It is the proxy's refusal, not the token's, and asked for once."""
    url = url_of(server, scheme)
    with tinyproxy(tmp_path, WITH_LOGIN) as proxy:
        options = options_of(proxy, login)
        with Client(url, agent_token="t", **options) as client:
            result = client.send_message(TO, "hello")
        with (
            AccountsClient(url, team_token="t", **options) as accounts,
            pytest.raises(TransportError) as caught,
        ):
            accounts.get_account()
    assert (result.outcome, result.error_code, result.attempts) == ("not_sent", "PROXY", 1)
    assert caught.value.code == "PROXY"
    assert server.fake.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_filter(scheme: str, server: LoopbackServer, tmp_path: Path) -> None:
    """A proxy that forbids the host says 403, which is not about the token's permissions."""
    forbidden = tmp_path / "forbidden"
    forbidden.write_text(r"127\.0\.0\.1" + "\n")
    url = url_of(server, scheme)
    with (
        tinyproxy(tmp_path, f'Filter "{forbidden}"\nFilterURLs Off') as proxy,
        Client(url, agent_token="t", **options_of(proxy)) as client,
    ):
        result = client.send_message(TO, "hello")
    assert (result.outcome, result.error_code, result.attempts) == ("not_sent", "PROXY", 1)
    assert server.fake.requests == []
