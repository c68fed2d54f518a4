"""The client of a workspace."""

from __future__ import annotations

import copy
import random
import secrets
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from buttdial_sync.accounts.agents import Agents
from buttdial_sync.accounts.billing import Billing
from buttdial_sync.accounts.caller import AccountsCaller
from buttdial_sync.accounts.channels import Channels
from buttdial_sync.accounts.erasure import Erasure
from buttdial_sync.accounts.members import Members
from buttdial_sync.accounts.onboarding import Onboarding
from buttdial_sync.accounts.server import Server
from buttdial_sync.accounts.tokens import Tokens
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.settings import load_settings
from buttdial_sync.tools.arguments import checked
from buttdial_sync.transport.runtime import Runtime, check_base_url


def _fresh_nonce() -> str:
    return secrets.token_hex(16)


class AccountsClient(Onboarding, Agents, Channels, Tokens, Members, Erasure, Billing):
    """
    A blocking client of a workspace: registration, agents, channels, tokens, members, billing.

    One client serves a whole process: threads share it freely, and a forked child makes connections
    of its own. Nothing is sent before the first call. Use it as a context manager or :meth:`close`
    it. Everything that the server refuses raises a subclass of :class:`ButtDialError`.

    Args:
        base_url: The server, as in ``https://butt-dial.example``.
        team_token: The workspace's token. Registering and verifying need none.
        timeout: Seconds that a whole call may take: connecting, posting, waiting, all attempts.
        connect_timeout: Seconds for each connection.
        max_attempts: Attempts in all; only what was certainly not carried out, or does no harm
            twice, is tried again.
        on_event: Told of each attempt, answer and retry, in the calling thread.
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
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random_fraction: Callable[[], float] = random.random,
        wall_clock: Callable[[], float] = time.time,
        make_nonce: Callable[[], str] = _fresh_nonce,
    ) -> None:
        self._owns_connections = False  # until the constructor is through, for __del__
        self.base_url = check_base_url(base_url)
        self._runtime = Runtime(
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_attempts=max_attempts,
            on_event=on_event,
            clock=clock,
            sleep=sleep,
            random_fraction=random_fraction,
        )
        server = Server(self._runtime, self.base_url, wall_clock=wall_clock, make_nonce=make_nonce)
        self._caller = AccountsCaller(server, team_token)
        self._owns_connections = True

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> AccountsClient:
        """
        Make a client of what the environment says.

        It reads ``BUTT_DIAL_BASE_URL`` (else ``BUTT_DIAL_URL``) and ``BUTT_DIAL_TEAM_TOKEN``.

        Args:
            environ: Where to look; ``os.environ`` when None.
            **overrides: Arguments of the constructor, which win over the environment.

        Returns:
            The client.

        Raises:
            ConfigError: There is no base URL, or a value is wrong.
        """
        settings = load_settings(environ)
        found = {"base_url": settings.base_url, "team_token": settings.team_token}
        return cls(**{**found, **overrides})

    @checked
    def with_token(self, token: str) -> AccountsClient:
        """
        Return a client that speaks with another token over the same connections.

        Closing it ends only itself: the connections belong to the client that it came from, and
        when that one is closed, it is closed too.

        Args:
            token: The workspace's token.

        Returns:
            The client.

        Raises:
            ConfigError: The token is empty, or no token.
        """
        view = copy.copy(self)
        view._owns_connections = False
        view._caller = AccountsCaller(self._caller.server, token)
        view._caller.closed = self._caller.closed
        return view

    def close(self) -> None:
        """
        End requests under way and pauses, and let go of the connections. Idempotent.

        Safe from any thread. Later calls raise :class:`ClientClosedError`. Network faults raise
        nothing. A client from :meth:`with_token` leaves the connections to the one that it came
        from.
        """
        self._caller.closed = True
        if self._owns_connections:
            self._runtime.close()

    def __enter__(self) -> AccountsClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if (
            getattr(self, "_owns_connections", False)
            and self._caller.server.was_asked
            and not self._caller.closed
        ):
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"AccountsClient({self.base_url!r})"
