"""The client's connection to one Happy server: requests with their attempts, the clock, closing."""

from __future__ import annotations

from collections.abc import Collection

from buttdial_sync.errors import ButtDialError
from buttdial_sync.happy.credentials import Credentials
from buttdial_sync.happy.errors import (
    HappyConfigError,
    HappyError,
    HappyOutcomeUnknownError,
    happy_error,
)
from buttdial_sync.transport.client_connection import ConnectionOptions
from buttdial_sync.transport.deadline import Deadline
from buttdial_sync.transport.network import address_of, is_private
from buttdial_sync.transport.rest_connection import RestConnection


class HappyConnection(RestConnection):
    """
    Makes the requests of one client. Safe to share between threads and across forks.

    Every request of this API may be repeated: it reads, it deletes, or it carries an id by which
    the server knows a repetition. So each is tried again until ``max_attempts``.

    Args:
        server_url: The server.
        credentials: The token, and where it comes from.
        insecure_hosts: Hosts to which the token may go unencrypted.
        options: See :class:`.ConnectionOptions`.

    Raises:
        HappyConfigError: An argument is missing or wrong.
    """

    repeats_everything = True
    unknown_error = HappyOutcomeUnknownError

    def __init__(
        self,
        server_url: str | None,
        credentials: Credentials,
        insecure_hosts: Collection[str],
        options: ConnectionOptions,
    ) -> None:
        super().__init__(_checked_url(server_url, insecure_hosts), credentials.token, options)

    def own_error(self, error: ButtDialError) -> HappyError:
        """Return the error of this client for one of the layers below."""
        return happy_error(error)

    def deadline_within(self, deadline: Deadline | None) -> Deadline:
        """Return the deadline of one request of many that a call makes, within the call's own."""
        return self.deadline() if deadline is None else deadline.within(self.timeout)


def _checked_url(server_url: str | None, insecure_hosts: Collection[str]) -> str:
    if not server_url:
        raise HappyConfigError(
            "no server_url", remediation="Give server_url, or set HAPPY_SERVER_URL."
        )
    parts = address_of(server_url, ("http", "https"))
    if parts is None or parts.query or parts.fragment or parts.username is not None:
        raise HappyConfigError(
            "server_url must be a plain address that begins with http:// or https://",
            remediation="Give the token as token, and nothing after the path.",
        )
    if not is_private(server_url.strip(), insecure_hosts):
        raise HappyConfigError(
            "the token would travel unencrypted, and everybody on the way could read it",
            remediation="Use https://, or name the host in insecure_hosts.",
        )
    return server_url.strip().rstrip("/")
