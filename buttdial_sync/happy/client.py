"""The client for Happy."""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from buttdial_sync.errors.scrubbing import Secret
from buttdial_sync.happy.connection import HappyConnection
from buttdial_sync.happy.credentials import VARIABLES, arguments_from_env, credentials_of
from buttdial_sync.happy.tasks import Tasks
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.settings import variables_of
from buttdial_sync.transport.client_connection import ConnectionOptions
from buttdial_sync.transport.network import NetworkOptions


class HappyClient(Tasks):
    """
    A blocking client for Happy, which runs coding agents on the machines of a user.

    One client serves a whole process: threads share it freely, also while an event loop runs, and
    a forked child makes connections of its own. Nothing is opened before the first call. Use it as
    a context manager or :meth:`close` it. What it raises is a
    :class:`~buttdial_sync.happy.errors.HappyError`, or a ``ConfigError`` for a wrong argument; both
    are ``ButtDialError``.

    Args:
        server_url: The server; ``HAPPY_SERVER_URL`` when None.
        token: The bearer token. With ``secret_b64``; without both a key file is read.
        secret_b64: The account secret in base64: the value of ``secret`` in ``agent.key``.
        credentials_path: A key file in either format; by default ``agent.key``, else
            ``access.key``, in ``HAPPY_HOME_DIR`` or ``~/.happy``.
        timeout: Seconds that a call may take. A server answers for a machine that is slow only
            after 45 seconds.
        connect_timeout: Seconds for each connection.
        max_attempts: Attempts of a request in all. Every request of this API may be repeated;
            the calls of a machine or a session are never repeated by themselves.
        poll_interval: Seconds between two looks at the server while it cannot push.
        settle_seconds: How long to wait for a turn to begin after the end of one that was running
            when a message was sent; without one, the message went into the one that ended.
        insecure_hosts: Hosts to which the token may go over ``http://``. This machine always may.
        ca_bundle: Path of the certificates (PEM) that the server's is checked with.
        client_cert: Path of a PEM file with the client's certificate and key, or both paths.
        proxies: The proxy for each scheme; the environment's when None.
        on_event: Called for each attempt, answer and retry of a request, in the calling thread.
        clock: A monotonic clock in seconds, for tests.
        sleep: Sleeps for some seconds between attempts, for tests.
        random_fraction: Gives numbers from 0 to 1 for the jitter, for tests.

    Raises:
        CredentialsError: The token or the secret is missing or malformed.
        HappyConfigError: Another argument is missing or wrong.
    """

    def __init__(
        self,
        server_url: str | None = None,
        credentials_path: str | os.PathLike[str] | None = None,
        token: str | None = None,
        secret_b64: str | None = None,
        *,
        timeout: float = 60.0,
        connect_timeout: float = 10.0,
        max_attempts: int = 3,
        poll_interval: float = 2.0,
        settle_seconds: float = 5.0,
        insecure_hosts: Collection[str] = (),
        ca_bundle: str | os.PathLike[str] | None = None,
        client_cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        token, secret_b64 = _hidden(token), _hidden(secret_b64)
        credentials = credentials_of(token, secret_b64, credentials_path)
        connection = HappyConnection(
            os.environ.get("HAPPY_SERVER_URL") if server_url is None else server_url,
            credentials,
            insecure_hosts,
            ConnectionOptions(
                timeout=timeout,
                connect_timeout=connect_timeout,
                max_attempts=max_attempts,
                network=NetworkOptions(
                    ca_bundle=ca_bundle, client_cert=client_cert, proxies=proxies
                ),
                on_event=on_event,
                clock=clock,
                sleep=sleep,
                random_fraction=random_fraction,
            ),
        )
        super().__init__(
            connection, credentials, poll_interval=poll_interval, settle_seconds=settle_seconds
        )

    @classmethod
    def from_env(
        cls, server_url: str | None = None, environ: Mapping[str, str] | None = None, **options: Any
    ) -> HappyClient:
        """
        Make a client from the environment.

        It reads ``HAPPY_SERVER_URL``, and ``HAPPY_TOKEN`` with ``HAPPY_SECRET``; without these two
        the key file in ``HAPPY_HOME_DIR`` or ``~/.happy``.

        Args:
            server_url: The server, instead of ``HAPPY_SERVER_URL``.
            environ: Where to look; ``os.environ`` when None.
            **options: More arguments of the constructor.

        Returns:
            The client.

        Raises:
            CredentialsError: The token or the secret is missing or malformed.
            HappyConfigError: There is no server URL.
        """
        environ = variables_of(environ, VARIABLES)  # frames are shown, and they are not the host's
        for name in options.keys() & {"token", "secret_b64"}:
            options[name] = _hidden(options[name])
        return cls(
            server_url or environ.get("HAPPY_SERVER_URL") or "",
            **{**arguments_from_env(environ), **options},
        )

    @property
    def server_url(self) -> str:
        """The server."""
        return self._connection.server_url

    def check_live_connection(self) -> None:
        """
        Open the live connection, if there is none.

        Raises:
            HappyError: It cannot be opened: an ``AuthenticationError`` if the token is refused.
                Calls of machines and sessions would fail; messages and waiting would not.
        """
        self._realtime.ensure(self._connection.deadline())

    def close(self) -> None:
        """
        End everything: requests, waits, the live connection. Idempotent, from any thread.

        Calls that run end with :class:`~buttdial_sync.happy.errors.HappyClosedError`, or with an
        unknown outcome; later calls raise that error.
        """
        self._connection.close()
        self._realtime.close()

    def __enter__(self) -> HappyClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        # Those who print the local variables of a constructor that raised meet half a client.
        url = self.server_url if hasattr(self, "_connection") else None
        return f"{type(self).__name__}({url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client cannot be pickled: make one in each process")

    def __del__(self) -> None:
        # A constructor that raised has left nothing.
        connection = getattr(self, "_connection", None)
        if connection is not None and connection.used and not connection.closed:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
            # Nothing that takes a lock: the thread in which it is collected may hold it.
            self._realtime.abandon()


def _hidden(text: str | None) -> str | None:
    """Hide an argument from those who print the local variables of frames."""
    return Secret(text) if isinstance(text, str) else text
