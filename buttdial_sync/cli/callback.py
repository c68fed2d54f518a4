"""Change an agent's callback URL for a while."""

from __future__ import annotations

import logging
import signal
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from tenacity import Retrying, before_sleep_log, retry_if_exception_type, stop_after_attempt

from buttdial_sync.cli.report import say
from buttdial_sync.errors import ButtDialError, ConfigError
from buttdial_sync.transport.signals import handling

if TYPE_CHECKING:
    from buttdial_sync.client import Client

logger = logging.getLogger("buttdial_sync.cli")

_ATTEMPTS = 3


class CallbackUrl(AbstractContextManager["CallbackUrl"]):
    """
    An agent's callback URL. The old one is restored when the block ends, also after Ctrl-C.

    Args:
        client: The agent's client.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._before: str | None = None

    def point_to(self, url: str) -> None:
        """
        Set it.

        Raises:
            ConfigError: The agent has none that could be restored; nothing was changed.
            ButtDialError: The server refused, or could not be reached.
        """
        before = self._client.profile.get().callback_url
        if not before:
            raise ConfigError(
                "the agent has no callback URL to restore afterwards",
                remediation="Set one first (client.inbox.set_callback_url), then try again.",
            )
        # Set first: the URL is restored whatever happens during the call, Ctrl-C included.
        self._before = before
        self._client.inbox.set_callback_url(url)
        logger.debug("the callback URL points here for now")

    def __exit__(self, *_: object) -> None:
        """
        Restore the old one, if it was changed.

        Raises:
            ButtDialError: It could not be restored; the old URL was printed to stderr.
        """
        before = self._before
        if before is None:
            return
        retrying = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            retry=retry_if_exception_type(ButtDialError),
            before_sleep=before_sleep_log(logger, logging.DEBUG),
            reraise=True,
        )
        # A second Ctrl-C is ignored while the first one is carried out; the time-out bounds it.
        with handling(signal.SIG_IGN, signal.SIGINT):
            try:
                retrying(self._client.inbox.set_callback_url, before)
            except BaseException:  # whatever it was: only this line still has the old URL
                say(f"The callback URL could not be restored. It was: {_shown(before)}", err=True)
                raise
        logger.debug("the callback URL was restored")


def _shown(url: str) -> str:
    """Return an address without its query, where hosts keep a token."""
    address, query, _ = url.partition("?")
    return f"{address}?(a query that is not shown)" if query else address
