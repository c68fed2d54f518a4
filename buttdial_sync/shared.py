"""The clients that a process shares."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Hashable, Mapping
from typing import Any

from buttdial_sync.agent import context_of
from buttdial_sync.client import Client
from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.settings import load_settings
from buttdial_sync.transport.fork import reset_after_fork


class SharedClients:
    """
    One client for each set of options. Safe to share between threads and across forks.

    They are closed when the process ends, without waiting for anything.
    """

    def __init__(self) -> None:
        self._clients: dict[Hashable, Client] = {}
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: a new lock, which nobody holds. The clients work in both processes."""
        self._lock = threading.Lock()

    def get(self, options: Mapping[str, Any]) -> Client:
        """Return the client of these options; a new one if there is none, or it was closed."""
        key = _key(options)
        client = self._clients.get(key)
        if client is None or _is_closed(client):
            with self._lock:
                # Another thread may have made it while this one waited for the lock.
                client = self._clients.get(key)
                if client is None or _is_closed(client):
                    self.close(options)
                    client = self._clients[key] = Client(**options)
                    atexit.register(client.close, 0.0)
        return client

    def close(self, options: Mapping[str, Any]) -> None:
        """Close the client of these options, if there is one. Does not wait."""
        client = self._clients.pop(_key(options), None)
        if client is not None:
            client.close(0.0)
            atexit.unregister(client.close)


_shared = SharedClients()


def shared_client(base_url: str | None = None, **options: Any) -> Client:
    """
    Return this process's client for these options; the same options return the same client.

    Made on first use; nothing is sent by that. Threads and forked children share it. It is closed
    when the process ends, without waiting for anything. If it is closed earlier, the next call
    returns a new one.

    Args:
        base_url: The server; that of the environment when None.
        **options: Further arguments of :class:`Client`. What is missing comes from the environment,
            as with :meth:`Client.from_env`. Give functions by name: each ``lambda`` is another
            option, and so makes another client.

    Raises:
        ConfigError: There is no base URL, or a value is wrong.
    """
    given = options if base_url is None else {"base_url": base_url, **options}
    return _shared.get(client_options(given))


def client_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a client: what is given, and the environment for the rest."""
    options = load_settings().for_client(**given)
    if isinstance(options["agent_token"], str):
        options["agent_token"] = Secret(options["agent_token"])
    return options


def close_shared_client(options: Mapping[str, Any]) -> None:
    """Close the shared client of these options, which :func:`client_options` returned."""
    _shared.close(options)


def _is_closed(client: Client) -> bool:
    return context_of(client).connection.closed


def _key(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return tuple(sorted((name, _key(item)) for name, item in value.items()))
    if isinstance(value, list | tuple):
        return tuple(_key(item) for item in value)
    return value if isinstance(value, Hashable) else id(value)
