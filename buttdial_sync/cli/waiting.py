"""What waits on the server, kept before a command throws it away: ``--inbox PATH``."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from buttdial_sync.cli.report import say
from buttdial_sync.errors import ConfigError

if TYPE_CHECKING:
    from buttdial_sync.models.inbox import WaitingMessage

_REMEDY = "Give --inbox PATH, a SQLite file or one to create, in a directory that can be written."


class WaitingFile:
    """
    The :class:`~buttdial_sync.transport.push_router.QueueKeeper` of a command: an inbox in a file.

    The file is made with the first message, so that a command that finds none leaves none behind.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).resolve()
        self._is_said = False

    def check(self) -> None:
        """
        Refuse a file that cannot be written.

        Raises:
            ConfigError: It cannot, or it is not an inbox.
        """
        if self._path.exists():
            self._write(())
        elif not os.access(self._path.parent, os.W_OK):
            raise ConfigError(f"{self._path} cannot be created", remediation=_REMEDY)

    def opening(self) -> None:
        """Check the file: what waits is read next."""
        self.check()

    def waiting(self, messages: Sequence[WaitingMessage]) -> None:
        """
        Write a page of messages, and say where, once.

        Raises:
            ConfigError: They could not be written. They are printed, because nobody else has them.
        """
        try:
            self._write(messages)
        except ConfigError:
            for message in messages:
                say(json.dumps(message.raw), err=True)
            raise
        if not self._is_said:
            self._is_said = True
            say(
                f"What waits for the agent is kept in {self._path}: the server forgets it.",
                err=True,
            )
            say(
                f"  -> Hand it over with: buttdial-sync inbox handle MODULE:NAME --db {self._path}",
                err=True,
            )

    def _write(self, messages: Sequence[WaitingMessage]) -> None:
        from buttdial_sync.inbound.inbox import SQLiteInbox
        from buttdial_sync.inbound.native import parse_waiting

        try:
            with SQLiteInbox(self._path) as inbox:
                inbox.write([event for message in messages for event in parse_waiting(message)])
        except (sqlite3.Error, ConfigError) as error:
            raise ConfigError(
                f"{self._path} cannot be written: {error}", remediation=_REMEDY
            ) from None
