"""The client of a workspace."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from buttdial_sync.accounts.agents import Agents
from buttdial_sync.accounts.billing import Billing
from buttdial_sync.accounts.channels import Channels
from buttdial_sync.accounts.erasure import Erasure
from buttdial_sync.accounts.members import Members
from buttdial_sync.accounts.onboarding import Onboarding
from buttdial_sync.accounts.tokens import Tokens
from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.endpoint_call import RequestSigner
from buttdial_sync.connection import Connection
from buttdial_sync.errors.scrubbing import masked, masked_items
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.settings import load_settings, own_variables
from buttdial_sync.transport.network import NetworkOptions

if TYPE_CHECKING:
    from requests.adapters import BaseAdapter


def _fresh_nonce() -> str:
    return secrets.token_hex(16)


class AccountsView(Onboarding, Agents, Channels, Tokens, Members, Erasure, Billing):
    """
    The calls of one workspace, with one token of it, over the connection of a client.

    Safe to share between threads. :class:`AccountsClient` is one, and
    :meth:`AccountsClient.with_token` makes more.

    Scope: workspace, unless a method says otherwise.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        AuthError: The token is wrong or was revoked.
        PermissionDeniedError: The token does not have the permission.
        NotFoundError: The server does not know the agent, workspace or record.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.

    Args:
        connection: The client's.
        signer: Signs the requests that want it.
        team_token: The workspace's token.
    """

    @checked
    def with_token(self, token: str) -> AccountsView:
        """
        Return a view that speaks with another token over the same connection.

        Closing it does nothing; closing the client ends it too.

        Args:
            token: The workspace's token.

        Returns:
            The view.

        Raises:
            ConfigError: The token is empty, or cannot be one.
        """
        return AccountsView(self._connection, self._signer, token)

    def forget_refusals(self) -> None:
        """
        Ask the server again about tokens that it refused, and after a lockout.

        A refused token rests for 15 minutes, and a lockout until its end, for all clients of this
        process at this server: meanwhile calls fail without a request. Call this after a correction
        on the server. A new token need not wait for it.
        """
        self._connection.logins.breaker.forget()

    @property
    def base_url(self) -> str:
        """The server."""
        return self._connection.base_url

    def close(self, timeout: float = 2.0) -> None:
        """
        Do nothing: the connection belongs to the client that made this view.

        Args:
            timeout: As for :meth:`AccountsClient.close`.
        """

    def __enter__(self) -> AccountsView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r})"


class AccountsClient(AccountsView):
    """
    A blocking client of a workspace: registration, agents, channels, tokens, members, billing.

    One client serves a whole process: threads share it freely, and a forked child makes connections
    of its own. Nothing is sent before the first call. Use it as a context manager or :meth:`close`
    it. Everything that the server refuses raises a subclass of :class:`ButtDialError`.

    Args:
        base_url: The server, as in ``https://butt-dial.example``.
        team_token: The workspace's token. Registering and verifying do not need one.
        timeout: Seconds that a whole call may take: connecting, posting, waiting, all attempts.
        connect_timeout: Seconds for each address of the host, at most its share of the time.
        max_attempts: Attempts in all; only what was certainly not carried out, or does no harm
            twice, is tried again.
        ca_bundle: Path of the certificates (PEM) that the server's is checked with. When None,
            ``REQUESTS_CA_BUNDLE`` and those of ``certifi``.
        client_cert: Path of a PEM file with a certificate and its key, or a tuple of both paths,
            for a server that wants to know the client by it.
        proxies: The proxy for each scheme, as in ``{"https": "http://proxy:3128"}``; ``{}`` for
            none. When None, those of the environment.
        headers: Sent with every request, for a gateway. Tokens are refused here.
        transport_adapter: Sends the requests instead of the library's connections. It is closed
            with the client; see :doc:`/configuration`.
        on_event: Called for each attempt, answer and retry, in the calling thread.
        clock: A monotonic clock in seconds, for tests.
        sleep: Sleeps for some seconds between attempts, for tests.
        random_fraction: Gives numbers from 0 to 1 for the jitter, for tests.
        wall_clock: Unix seconds for the timestamp of signed requests, for tests.
        make_nonce: Makes 32 fresh hex digits for each signed request, for tests.

    Raises:
        ConfigError: An argument is missing or wrong.
    """

    def __init__(
        self,
        base_url: str,
        *,
        team_token: str | None = None,
        timeout: float = 15.0,
        connect_timeout: float = 10.0,
        max_attempts: int = 3,
        ca_bundle: str | os.PathLike[str] | None = None,
        client_cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        transport_adapter: BaseAdapter | None = None,
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random_fraction: Callable[[], float] = random.random,
        wall_clock: Callable[[], float] = time.time,
        make_nonce: Callable[[], str] = _fresh_nonce,
    ) -> None:
        team_token, proxies, headers = masked(team_token), masked(proxies), masked(headers)
        connection = Connection(
            base_url,
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_attempts=max_attempts,
            network=NetworkOptions(
                ca_bundle=ca_bundle,
                client_cert=client_cert,
                proxies=proxies,
                headers=headers,
                transport_adapter=transport_adapter,
            ),
            on_event=on_event,
            clock=clock,
            sleep=sleep,
            random_fraction=random_fraction,
        )
        signer = RequestSigner(wall_clock=wall_clock, make_nonce=make_nonce)
        super().__init__(connection, signer, team_token)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> AccountsClient:
        """
        Make a client from the environment.

        It reads ``BUTT_DIAL_BASE_URL`` (else ``BUTT_DIAL_URL``), ``BUTT_DIAL_TEAM_TOKEN``,
        ``BUTT_DIAL_CA_BUNDLE`` and ``BUTT_DIAL_CLIENT_CERT``.

        Args:
            environ: Where to look; ``os.environ`` when None.
            **overrides: Arguments of the constructor, which win over the environment.

        Returns:
            The client.

        Raises:
            ConfigError: There is no base URL, or a value is wrong.
        """
        overrides = masked_items(overrides)
        environ = own_variables(environ)
        return cls(**load_settings(environ).for_accounts(**overrides))

    def close(self, timeout: float = 2.0) -> None:
        """
        End requests under way and pauses, and let go of the connections. Idempotent.

        Safe from any thread. Later calls raise :class:`ClientClosedError`. Network faults raise
        nothing.

        Args:
            timeout: How long to wait, in seconds. This client has no threads, so it does not wait.
        """
        self._connection.close(timeout)

    def __enter__(self) -> AccountsClient:
        return self
