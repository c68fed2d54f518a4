"""nginx, HAProxy and Varnish before the server, as documented in docs/proxies.rst."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from buttdial_sync import Client, ProtocolError
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from tests.integration.proxies.running import PATIENCE, haproxy, nginx, varnish

pytestmark = pytest.mark.slow

TO = "+14155550123"
UNBUFFERED = "location / { proxy_pass SERVER; proxy_buffering off; }"
UPSTREAM_1_1 = """
location / {
  proxy_pass SERVER; proxy_http_version 1.1; proxy_set_header Connection "";
  proxy_buffering off; gzip on; gzip_types text/event-stream;
}
"""
PREFIX = "location /dial/ { proxy_pass SERVER/; proxy_buffering off; }"
PREFIX_AND_POSTS = PREFIX + " location /messages { proxy_pass SERVER; }"
IMPATIENT = UNBUFFERED.replace("}", "proxy_read_timeout 3s; }")
PATIENT_HAPROXY = "timeout server 60s\n  option http-no-delay"
IMPATIENT_HAPROXY = "timeout server 3s"
Proxy = Callable[[LoopbackServer, Path, str], AbstractContextManager[str]]


@pytest.fixture(params=["hosted", "open-source"])
def server(request: pytest.FixtureRequest) -> Iterator[LoopbackServer]:
    with FakeButtDialServer(dialect=request.param).listen() as loopback:
        yield loopback


def client_of(url: str, **options: Any) -> Client:
    options.setdefault("timeout", PATIENCE)
    return Client(url, agent_token="t", sleep=lambda _: None, **options)


@pytest.mark.parametrize(
    ("proxy", "rules", "prefix"),
    [
        (nginx, UNBUFFERED, ""),
        (nginx, UPSTREAM_1_1, ""),
        (nginx, PREFIX_AND_POSTS, "/dial"),
        (haproxy, PATIENT_HAPROXY, ""),
        (varnish, "", ""),
    ],
    ids=["nginx", "nginx with HTTP/1.1 and gzip", "nginx with a prefix", "haproxy", "varnish"],
)
def test_works(
    proxy: Proxy, rules: str, prefix: str, server: LoopbackServer, tmp_path: Path
) -> None:
    """One stream, and each message once."""
    with proxy(server, tmp_path, rules) as url, client_of(url + prefix) as client:
        for number in range(10):
            assert client.send_message(TO, f"No. {number}").ok
    assert [each.body for each in server.fake.delivered] == [f"No. {n}" for n in range(10)]
    assert server.fake.streams_opened == 1


@pytest.mark.parametrize("server", ["hosted"], indirect=True)
def test_nginx_that_buffers(server: LoopbackServer, tmp_path: Path) -> None:
    """Its default holds every stream back: that is said, with the remedy."""
    rules = "location / { proxy_pass SERVER; }"
    with nginx(server, tmp_path, rules) as url, client_of(url, timeout=3.0) as client:
        result = client.send_message(TO, "hello")
    assert (result.outcome, result.error_code) == ("not_sent", "TIMEOUT")
    assert "proxy_buffering off" in str(result.remediation)


@pytest.mark.parametrize("server", ["open-source"], indirect=True)
def test_prefix_that_the_server_does_not_know(server: LoopbackServer, tmp_path: Path) -> None:
    """It names an address at the root, which nginx does not pass on: told after one stream."""
    with (
        nginx(server, tmp_path, PREFIX) as url,
        client_of(f"{url}/dial") as client,
        pytest.raises(ProtocolError, match="not below /dial") as caught,
    ):
        client.ping()
    assert server.fake.streams_opened == 1
    assert "pass /messages" in str(caught.value.remediation)
    assert (caught.value.status_code, caught.value.outcome) == (404, "not_sent")


@pytest.mark.parametrize("fault", ["reset", "hang"])
@pytest.mark.parametrize(
    ("proxy", "rules"),
    [
        (nginx, IMPATIENT),
        (haproxy, IMPATIENT_HAPROXY),
        (varnish, ".first_byte_timeout = 3s;"),
    ],
    ids=["nginx", "haproxy", "varnish"],
)
@pytest.mark.parametrize("server", ["open-source"], indirect=True)
def test_error_page_of_a_proxy(
    fault: Any, proxy: Proxy, rules: str, server: LoopbackServer, tmp_path: Path
) -> None:
    """The server has carried it out, and the proxy says 502, 503 or 504: once, and no failure."""
    with proxy(server, tmp_path, rules) as url, client_of(url) as client:
        client.list_tools()
        server.fake.fault(fault, on="call", delivered=True)
        result = client.send_message(TO, "hello")
    assert result.ok or result.unknown
    assert [each.body for each in server.fake.delivered] == ["hello"]


@pytest.mark.parametrize("server", ["open-source"], indirect=True)
def test_idle_stream_that_is_cut(server: LoopbackServer, tmp_path: Path) -> None:
    """A proxy ends a silent stream; the next call opens another, and nobody notices."""
    with nginx(server, tmp_path, IMPATIENT) as url, client_of(url) as client:
        assert client.send_message(TO, "before").ok
        assert server.fake.wait_for(lambda: not server.fake.core.sessions.by_id, PATIENCE)
        assert client.send_message(TO, "after").ok
    assert [each.body for each in server.fake.delivered] == ["before", "after"]
