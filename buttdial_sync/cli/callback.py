"""Change an agent's callback URL for a while."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from buttdial_sync.cli.report import say
from buttdial_sync.errors import ButtDialError, ConfigError

if TYPE_CHECKING:
    from buttdial_sync.client import Client

logger = logging.getLogger("buttdial_sync.cli")

_ATTEMPTS = 3


class CallbackUrl:
    """
    An agent's callback URL. The old one is restored when the block ends, also after Ctrl-C.

    Args:
        client: The agent's client.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._before: str | None = None

    def __enter__(self) -> CallbackUrl:
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

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

    def restore(self) -> None:
        """
        Restore the old one, if it was changed. Calling it twice is safe.

        Raises:
            ButtDialError: It could not be restored; the old URL was printed to stderr.
        """
        before, self._before = self._before, None
        if before is None:
            return
        with _without_interruption():
            try:
                self._set(before)
            except BaseException:  # whatever it was: only this line still has the old URL
                say(f"The callback URL could not be restored. It was: {_shown(before)}", err=True)
                raise
        logger.debug("the callback URL was restored")

    def _set(self, url: str) -> None:
        if not any(self._was_set(url) for _ in range(_ATTEMPTS - 1)):
            self._client.inbox.set_callback_url(url)

    def _was_set(self, url: str) -> bool:
        try:
            self._client.inbox.set_callback_url(url)
        except ButtDialError as error:
            logger.debug("restoring the callback URL failed: %s", error.message)
            return False
        return True


def _shown(url: str) -> str:
    """Return an address without its query, where hosts keep a token."""
    address, query, _ = url.partition("?")
    return f"{address}?(a query that is not shown)" if query else address


@contextmanager
def _without_interruption() -> Iterator[None]:
    """Ignore a second Ctrl-C while the first one is carried out; the time-out bounds it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
