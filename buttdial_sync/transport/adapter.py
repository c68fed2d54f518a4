"""The pools of connections, one for each origin and its proxy and certificate settings."""

from __future__ import annotations

import socket
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from requests import PreparedRequest
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection

from buttdial_sync.errors import ConfigError
from buttdial_sync.transport.connections import DeadlineConnection, DeadlineHTTPSConnection
from buttdial_sync.transport.fork import leak_until_exit

# A peer that vanished without a word shows after about two minutes.
_KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
    if hasattr(socket, name)
]


def _vcrs_class(pool: type[HTTPConnectionPool]) -> Any:
    """Return the class with which vcr.py replaced urllib3's connections; None if it did not."""
    kind: Any = pool.ConnectionCls
    return kind if kind.__module__.partition(".")[0] == "vcr" else None


class _HTTPPool(HTTPConnectionPool):
    @property
    def ConnectionCls(self) -> Any:  # type: ignore[override]  # noqa: N802 - urllib3's name
        return _vcrs_class(HTTPConnectionPool) or DeadlineConnection


class _HTTPSPool(HTTPSConnectionPool):
    @property
    def ConnectionCls(self) -> Any:  # type: ignore[override]  # noqa: N802 - urllib3's name
        return _vcrs_class(HTTPSConnectionPool) or DeadlineHTTPSConnection


def refuse_recorded_stream() -> None:
    """
    Call this before a stream is opened.

    Raises:
        ConfigError: vcr.py records. It reads each answer to its end, and a stream has none.
    """
    if _vcrs_class(HTTPConnectionPool) is not None:
        raise ConfigError(
            "vcr.py cannot record an event stream, which never ends",
            remediation='Send with send_via="rest", record calls that need no stream, or test with '
            "the fixture fake_server.",
        )


def close_adapter(adapter: BaseAdapter) -> None:
    """Close a host's adapter with its connections, which urllib3's own clear() only forgets."""
    if isinstance(adapter, HTTPAdapter):
        for manager in (adapter.poolmanager, *adapter.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 - it is not iterable: threads change it
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
    adapter.close()


def reset_adapter(adapter: BaseAdapter) -> None:
    """Give a host's adapter new connections, in a forked child; the inherited stay untouched."""
    if isinstance(adapter, HTTPAdapter):
        leak_until_exit(adapter.poolmanager, adapter.proxy_manager)
        # As after pickling: it makes new managers.
        adapter.__setstate__(adapter.__getstate__())  # type: ignore[attr-defined]


class DeadlineAdapter(HTTPAdapter):
    """
    A ``requests`` adapter whose connections keep the deadline of the running request.

    It keeps one pool for each origin, proxy and certificate setting, the last used ones. A pool
    that is dropped closes its connections as soon as no request uses it.
    """

    def init_poolmanager(self, connections: int, *args: Any, **kwargs: Any) -> None:
        """Make the pool, with TCP keep-alive and our connections."""
        options = [*HTTPConnection.default_socket_options, *_KEEP_ALIVE]
        self._lock = threading.Lock()
        self._most_pools = connections
        self._pools: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        super().init_poolmanager(connections, *args, socket_options=options, **kwargs)
        self._use_our_connections(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the manager for a proxy, with our connections."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._use_our_connections(manager)
        return manager

    def get_connection_with_tls_context(
        self,
        request: PreparedRequest,
        verify: Any,
        proxies: Mapping[str, str] | None = None,
        cert: Any = None,
    ) -> Any:
        """Return the pool of the request's origin, for these proxies and this verification."""
        origin = "/".join(str(request.url).split("/", 3)[:3])
        key = (origin, verify, cert, *sorted((proxies or {}).items()))
        with self._lock:
            if key not in self._pools:
                pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
                super().close()  # the managers forget it: only what is kept here is kept
                self._pools[key] = pool
            self._pools.move_to_end(key)
            if len(self._pools) > self._most_pools:
                self._pools.popitem(last=False)
            return self._pools[key]

    def close(self) -> None:
        """Close the connections; those in use are closed when their request ends."""
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
            self.proxy_manager.clear()
        for pool in pools:
            pool.close()

    @staticmethod
    def _use_our_connections(manager: Any) -> None:
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
