"""Where session tokens are kept between runs of a program."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import attrs

from buttdial_sync.errors import ConfigError
from buttdial_sync.errors.scrubbing import Secret, masked
from buttdial_sync.stores.private_file import replace_private_file
from buttdial_sync.transport.deadline import Deadline, check_seconds

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger("buttdial_sync.procedura")

DEFAULT_URL = "ws://127.0.0.1:8765"
_FILE = "PROCEDURA_TOKEN_FILE"
_DEFAULT_FILE = "~/.procedura/token"
_VERSION = 1
_LOCK_AGAIN_AFTER = 0.05


@attrs.frozen(kw_only=True)
class _Entry:
    """One token. In a file of the published client nobody knows the account and the device."""

    url: str
    account: str | None
    device: str | None
    token: str = attrs.field(repr=False, converter=Secret)  # dicts of it are shown in frames

    def is_for(self, url: str, account: str | None, device: str | None) -> bool:
        """Whether it may be given out."""
        return (
            self.url == url
            and (account is None or self.account in {None, account})
            and (device is None or self.device in {None, device})
        )


class TokenStore(Protocol):
    """
    What a host implements to keep tokens in a place of its own.

    Several threads may call it at once. ``account`` is None where it is not known.
    """

    def load(self, url: str, account: str | None, device: str | None) -> str | None:
        """Return the token of this server, account and device; None for "any of them"."""

    def save(self, url: str, account: str | None, device: str, token: str) -> None:
        """Keep a token, instead of an older one of this server, account and device."""


class FileTokenStore:
    """
    Keeps tokens in a file that only its owner can read.

    The file is replaced as a whole, and two processes that log in at once lose neither token. A
    file of the published client, which holds one bare token, is read too. It does not say whose
    the token is: it is given only to the server of ``PROCEDURA_URL``, or else to that client's
    default, ``ws://127.0.0.1:8765``, and replaced by the first login.

    Args:
        path: The file; ``PROCEDURA_TOKEN_FILE`` or else ``~/.procedura/token`` when None, looked
            up whenever it is used.
        lock_timeout: Seconds to wait for another process that writes the file.

    Raises:
        ArgumentValueError: ``lock_timeout`` is not a number of seconds.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, lock_timeout: float = 10.0
    ) -> None:
        self._path = path
        self._lock_timeout = check_seconds(lock_timeout, "lock_timeout")

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._named or _DEFAULT_FILE).expanduser()

    @property
    def _named(self) -> str | os.PathLike[str]:
        return self._path or os.environ.get(_FILE, "").strip()

    def load(self, url: str, account: str | None, device: str | None) -> str | None:
        """Return the token that was saved last for this server, account and device."""
        for entry in reversed(self._read()):
            if entry.is_for(url, account, device):
                return entry.token
        return None

    def save(self, url: str, account: str | None, device: str, token: str) -> None:
        """
        Write a token.

        Raises:
            ConfigError: The file cannot be written, or another process keeps it locked.
        """
        token = Secret(token)
        new = _Entry(url=url, account=account or "", device=device, token=token)
        path = self.path
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._named:
                path.parent.chmod(0o700)  # the published client leaves it open
            with _alone(path, Deadline(self._lock_timeout)):
                kept = [
                    entry
                    for entry in self._read()
                    if entry.account is not None and not entry.is_for(url, new.account, device)
                ]
                tokens = [attrs.asdict(entry) for entry in (*kept, new)]
                content = {"version": _VERSION, "tokens": tokens}
                replace_private_file(path, json.dumps(content, indent=1))
        except OSError as error:
            reason = f"the token cannot be written to {path}: {type(error).__name__}"
        else:
            return
        raise ConfigError(reason, remediation=f"Make it writable, or name another file in {_FILE}.")

    def _read(self) -> list[_Entry]:
        """Return what is kept, the oldest first."""
        path = self.path
        try:
            text = Secret(path.read_text("utf-8").strip())
            is_open = os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            reason = f"{path} cannot be read: {type(error).__name__}"
            raise ConfigError(reason, remediation="Correct or remove the file.") from None
        if is_open:
            logger.warning("others can read the tokens in %s: chmod 600 it", path)
        if not text.startswith("{"):
            url = os.environ.get("PROCEDURA_URL", "").strip() or DEFAULT_URL
            old = _Entry(url=url, account=None, device=None, token=text)
            return [old] if text else []
        return _entries(text, path)


def _entries(text: str, path: Path) -> list[_Entry]:
    try:
        found: Any = json.loads(text, object_hook=masked)
        entries = [
            _Entry(**{key: str(entry[key]) for key in ("url", "account", "device", "token")})
            for entry in found["tokens"]
        ]
    except (ValueError, KeyError, TypeError):
        reason = f"{path} is not a file of tokens"
    else:
        return entries
    raise ConfigError(reason, remediation="Remove it and log in again.")


@contextmanager
def _alone(path: Path, deadline: Deadline) -> Iterator[None]:
    """Let one process at a time read the file and write it. A stopped one may keep the lock."""
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        while not _is_locked(descriptor):
            if deadline.remaining() <= 0:
                raise ConfigError(
                    f"another process has kept {path} locked for {deadline.seconds:g} s",
                    remediation="Find out with fuser or lsof which one has the lock file open.",
                )
            time.sleep(min(_LOCK_AGAIN_AFTER, deadline.remaining()))
        yield
    finally:
        # A child that was forked meanwhile has the descriptor, too: closing ours unlocks nothing.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
