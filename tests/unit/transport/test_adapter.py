"""Which requests share connections, and when connections are closed."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from buttdial_sync.errors import ConfigError
from buttdial_sync.transport.adapter import (
    DeadlineAdapter,
    refuse_recorded_stream,
    reset_adapter,
)
from buttdial_sync.transport.connections import DeadlineConnection, DeadlineHTTPSConnection
from buttdial_sync.transport.http import Http, SharedAdapter
from buttdial_sync.transport.network import NetworkOptions
from tests.forks import is_leaked

PROXIES = {"https": "http://proxy.test:3128"}


@pytest.fixture
def adapter() -> Iterator[DeadlineAdapter]:
    made = DeadlineAdapter(pool_connections=2)
    yield made
    made.close()


def pool(
    adapter: DeadlineAdapter,
    url: str = "https://a.test/x",
    *,
    verify: Any = True,
    proxies: Mapping[str, str] | None = None,
    cert: Any = None,
) -> Any:
    request = requests.Request("GET", url).prepare()
    return adapter.get_connection_with_tls_context(request, verify, proxies, cert)


def is_closed(made: Any) -> bool:
    return made.pool is None


@pytest.mark.parametrize(
    "url", ["https://a.test/y", "https://a.test/x/y/z?q=/", "https://a.test", "https://a.test/"]
)
def test_one_pool_for_an_origin(url: str, adapter: DeadlineAdapter) -> None:
    """The path makes no difference."""
    assert pool(adapter, url) is pool(adapter)


@pytest.mark.parametrize(
    "other",
    [
        {"url": "https://b.test/x"},
        {"url": "https://a.test:8443/x"},
        {"url": "http://a.test/x"},
        {"verify": False},
        {"proxies": PROXIES},
        {"cert": ("client.pem", "key.pem")},
    ],
    ids=str,
)
def test_other_pools(other: dict[str, Any], adapter: DeadlineAdapter) -> None:
    """Another host, port, scheme, proxy or verification has connections of its own."""
    first = pool(adapter)
    assert pool(adapter, **other) is not first
    assert pool(adapter) is first


def test_no_proxies_and_none_are_the_same(adapter: DeadlineAdapter) -> None:
    """An empty setting is none."""
    assert pool(adapter, proxies={}) is pool(adapter, proxies=None)


def test_the_pool_unused_for_longest_goes(adapter: DeadlineAdapter) -> None:
    """Two are kept. Of three origins the one that was used last time longest ago is dropped."""
    first, second = pool(adapter, "http://1.test"), pool(adapter, "http://2.test")
    assert pool(adapter, "http://1.test") is first
    pool(adapter, "http://3.test")
    assert pool(adapter, "http://1.test") is first
    assert pool(adapter, "http://2.test") is not second


def test_only_the_adapter_keeps_pools(adapter: DeadlineAdapter) -> None:
    """urllib3's own managers forget a pool, so that one that is dropped can end."""
    pool(adapter)
    pool(adapter, proxies=PROXIES)
    managers = [adapter.poolmanager, *adapter.proxy_manager.values()]
    assert [len(manager.pools) for manager in managers] == [0] * len(managers)


@pytest.mark.parametrize(
    ("url", "proxies", "kind"),
    [
        ("http://a.test", None, DeadlineConnection),
        ("https://a.test", None, DeadlineHTTPSConnection),
        ("https://a.test", PROXIES, DeadlineHTTPSConnection),
        ("http://a.test", {"http": "http://proxy.test:3128"}, DeadlineConnection),
    ],
)
def test_connections_keep_the_deadline(
    url: str, proxies: dict[str, str] | None, kind: type, adapter: DeadlineAdapter
) -> None:
    """All connections are ours, those through a proxy too."""
    assert pool(adapter, url, proxies=proxies).ConnectionCls is kind


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the platform has no such options")
def test_vanished_peers_show(adapter: DeadlineAdapter) -> None:
    """Connections probe a silent peer, and give it up after two minutes."""
    options = {
        (level, name): value for level, name, value in pool(adapter).conn_kw["socket_options"]
    }
    assert options[socket.SOL_SOCKET, socket.SO_KEEPALIVE] == 1
    idle, interval, probes = (
        options[socket.IPPROTO_TCP, name]
        for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    assert (idle, idle + interval * probes) == (60, 120)
    assert options[socket.IPPROTO_TCP, socket.TCP_NODELAY] == 1  # urllib3's own default stays


def test_close(adapter: DeadlineAdapter) -> None:
    """Closing closes each pool and forgets it, and the managers of proxies."""
    made = [pool(adapter), pool(adapter, proxies=PROXIES)]
    adapter.close()
    assert all(map(is_closed, made))
    assert not adapter.proxy_manager
    assert pool(adapter) not in made


def test_connections_end_with_the_last_client() -> None:
    """As long as one of two clients is open, the connections are."""
    shared = SharedAdapter()
    clients = [Http(connect_timeout=1.0), Http(connect_timeout=1.0)]
    for client in clients:
        shared.join(client)
    made = pool(shared.adapter)
    shared.leave(clients[0])
    assert not is_closed(made)
    shared.leave(clients[1])
    assert is_closed(made)
    for client in clients:
        client.close()


def test_connections_after_a_fork() -> None:
    """A forked child has connections of its own; the parent's are left alone."""
    shared = SharedAdapter()
    parents, inherited = shared.adapter, pool(shared.adapter)
    shared._reset_after_fork()
    assert shared.adapter is not parents
    assert not is_closed(inherited)


def test_what_a_process_keeps() -> None:
    """64 connections of each of 32 origins."""
    adapter = SharedAdapter().adapter
    origins = [f"http://h{number}.test" for number in range(33)]
    made = [pool(adapter, origin) for origin in origins]
    assert made[0].pool.maxsize == 64
    assert pool(adapter, origins[1]) is made[1]
    assert pool(adapter, origins[0]) is not made[0]
    adapter.close()


def test_hosts_adapter_after_a_fork() -> None:
    """It has new managers; what it inherited is neither closed nor used."""

    class Counting(HTTPAdapter):
        made = 0

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            self.made += 1
            super().init_poolmanager(*args, **kwargs)

    adapter = Counting(pool_maxsize=7)
    manager, inherited = (
        adapter.poolmanager,
        adapter.poolmanager.connection_from_url("http://a.test"),
    )
    proxies = adapter.proxy_manager_for("http://proxy.test:3128")
    reset_adapter(adapter)
    assert adapter.poolmanager is not manager
    assert adapter.proxy_manager == {}
    assert adapter.proxy_manager_for("http://proxy.test:3128") is not proxies
    assert adapter.poolmanager.connection_from_url("http://a.test").pool.maxsize == 7
    assert not is_closed(inherited)
    assert adapter.made == 2
    assert is_leaked(manager)
    reset_adapter(BaseAdapter())  # one without connections has nothing to reset


def test_client_resets_its_adapter_in_a_child() -> None:
    """Also with an adapter of the host's the child has a session of its own."""
    adapter = HTTPAdapter()
    http = Http(connect_timeout=1.0, network=NetworkOptions(transport_adapter=adapter))
    manager, session = adapter.poolmanager, http._session
    http._reset_after_fork()
    assert adapter.poolmanager is not manager
    assert http._session is not session
    assert http._session.get_adapter("https://a.test") is adapter
    http.close()


class Recording:
    """Stands in for the class that vcr.py puts in the place of urllib3's."""


Recording.__module__ = "vcr.patch"


@pytest.mark.parametrize(
    ("url", "base"),
    [("http://a.test", HTTPConnectionPool), ("https://a.test", HTTPSConnectionPool)],
)
def test_recorder(
    url: str, base: Any, adapter: DeadlineAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are vcr's while it records, and ours again afterwards; no stream meanwhile."""
    made = pool(adapter, url)
    ours = made.ConnectionCls
    with monkeypatch.context() as recording:
        recording.setattr(HTTPConnectionPool, "ConnectionCls", Recording)
        recording.setattr(base, "ConnectionCls", Recording)
        assert made.ConnectionCls is Recording
        with pytest.raises(ConfigError, match=r"vcr\.py"):
            refuse_recorded_stream()
    assert made.ConnectionCls is ours
    refuse_recorded_stream()


def test_patches_of_others(adapter: DeadlineAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only vcr's class is taken over: any other would lose the deadlines."""

    class Foreign:
        pass

    monkeypatch.setattr(HTTPConnectionPool, "ConnectionCls", Foreign)
    assert pool(adapter, "http://a.test").ConnectionCls is DeadlineConnection
    refuse_recorded_stream()
