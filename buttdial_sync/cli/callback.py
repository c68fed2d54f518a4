"""Pointing an agent's callback URL elsewhere for a while."""

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
    An agent's callback URL, which is put back as it was when the block ends, also after Ctrl-C.

    Args:
        client: The agent's client.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._before: str | None = None

    def __enter__(self) -> CallbackUrl:
        return self

    def __exit__(self, *_: object) -> None:
        self.put_back()

    def point_to(self, url: str) -> None:
        """
        Set it.

        Raises:
            ConfigError: The agent has none, so there would be none to put back; nothing was
                changed.
            ButtDialError: The server said no, or could not be reached.
        """
        before = self._client.profile.get().callback_url
        if not before:
            raise ConfigError(
                "the agent has no callback URL that could be put back afterwards",
                remediation="Set one first (client.inbox.set_callback_url), then try again.",
            )
        # Noted first: whatever comes of the call, also Ctrl-C, is taken back.
        self._before = before
        self._client.inbox.set_callback_url(url)
        logger.debug("the callback URL leads here for now")

    def put_back(self) -> None:
        """
        Put the old one back, if it was changed. Calling it twice does nothing more.

        Raises:
            ButtDialError: It could not be put back; what it was has been said on stderr.
        """
        before, self._before = self._before, None
        if before is None:
            return
        with _without_interruption():
            try:
                self._set(before)
            except BaseException:
                say(f"The callback URL could not be put back. It was: {_shown(before)}", err=True)
                raise
        logger.debug("the callback URL is what it was")

    def _set(self, url: str) -> None:
        if not any(self._was_set(url) for _ in range(_ATTEMPTS - 1)):
            self._client.inbox.set_callback_url(url)

    def _was_set(self, url: str) -> bool:
        try:
            self._client.inbox.set_callback_url(url)
        except ButtDialError as error:
            logger.debug("putting the callback URL back failed: %s", error)
            return False
        return True


def _shown(url: str) -> str:
    """Return an address without its query, where hosts keep a token."""
    address, query, _ = url.partition("?")
    return f"{address}?(a query that is not shown)" if query else address


@contextmanager
def _without_interruption() -> Iterator[None]:
    """Let no second Ctrl-C end what the first one asked for; it is bounded by the time-out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
