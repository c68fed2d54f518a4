"""From settings to a client: the environment, ``.env``, options, and a prompt for the token."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import partial, wraps
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buttdial_sync.cli.command import with_options
from buttdial_sync.cli.report import Report
from buttdial_sync.cli.status_line import ask, can_ask
from buttdial_sync.errors import ConfigError
from buttdial_sync.settings import Settings, load_settings

if TYPE_CHECKING:
    from buttdial_sync.client import Client
    from buttdial_sync.models.events import ClientEvent

logger = logging.getLogger("buttdial_sync.cli")

_DOTENV = Path(".env")
DEFAULT_INBOX = "buttdial-inbox.db"
connection_options = with_options(
    click.option("--base-url", metavar="URL", help="The server [env: BUTT_DIAL_BASE_URL]."),
    click.option("--agent-id", metavar="ID", help="The agent [env: BUTT_DIAL_AGENT_ID]."),
    click.option("--timeout", type=float, metavar="SECONDS", help="Over everything; 30 if absent."),
    click.option(
        "--inbox",
        type=click.Path(dir_okay=False),
        metavar="PATH",
        help="Keep messages there that opening a stream would throw away, as on the open-source "
        f"server: a SQLite file; {DEFAULT_INBOX} if absent.",
    ),
)


def with_client(
    callback: Callable[..., Report], *, only_sends: bool = False
) -> Callable[..., Report]:
    """
    Give a command the options of a server, and a client for as long as it runs.

    Args:
        callback: The command.
        only_sends: As in :func:`open_client`.
    """

    @connection_options
    @wraps(callback)
    def run(
        *args: Any,
        base_url: str | None,
        agent_id: str | None,
        timeout: float | None,
        inbox: str | None,
        **kwargs: Any,
    ) -> Report:
        with open_client(base_url, agent_id, timeout, inbox=inbox, only_sends=only_sends) as client:
            return callback(client, *args, **kwargs)

    return run


# For commands that only send.
with_sender = partial(with_client, only_sends=True)


def open_client(
    base_url: str | None,
    agent_id: str | None,
    timeout: float | None,
    *,
    agent_token: str | None = None,
    inbox: str | None = None,
    only_sends: bool = False,
) -> Client:
    """
    Make the client that the options and the settings describe.

    Args:
        base_url: The server; that of the settings when None.
        agent_id: The agent; that of the settings when None.
        timeout: In seconds, over everything.
        agent_token: The token; that of the settings when None, else a person is asked for it.
        inbox: The file for messages that opening a stream would throw away.
        only_sends: Send over REST where a stream would do that, unless the settings say otherwise.

    Raises:
        ConfigError: Something is missing or wrong.
    """
    options = Settings(
        base_url=base_url or None, agent_id=agent_id or None, agent_token=agent_token or None
    )
    settings = options.filled_from(read_settings())
    if settings.base_url is None:
        raise ConfigError(
            "no server is configured", remediation="Give --base-url, or set BUTT_DIAL_BASE_URL."
        )
    given: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
    token = settings.agent_token or ask_for_token()

    from buttdial_sync.agent import context_of
    from buttdial_sync.cli.waiting import WaitingFile
    from buttdial_sync.client import Client

    keeper = WaitingFile(inbox or DEFAULT_INBOX)
    if inbox is not None:
        keeper.check()
    if only_sends:
        given["send_via"] = settings.send_via or "auto"
    client = Client(**settings.for_client(agent_token=token, on_event=log_event, **given))
    if given.get("send_via") != "auto":  # such a client opens no stream that empties the queue
        context_of(client).connection.router.keep_waiting(keeper)
    return client


def read_settings() -> Settings:
    """
    Read the environment, and ``.env`` in the working directory for what it lacks.

    Raises:
        ConfigError: A setting has an invalid value, or ``.env`` cannot be read.
    """
    return load_settings().filled_from(_settings_of_file())


def _settings_of_file() -> Settings:
    if not _DOTENV.is_file():
        return Settings()
    try:
        text = _DOTENV.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = f".env cannot be read: {type(error).__name__}"
        raise ConfigError(
            reason, remediation="Make it readable UTF-8 text, or run the program elsewhere."
        ) from None
    if "BUTT_DIAL_" not in text:
        return Settings()
    try:
        from dotenv import dotenv_values
    except ImportError:
        click.echo("Note: .env is not read: this needs buttdial-sync[dotenv].", err=True)
        return Settings()
    logger.debug("reading .env")
    values = dotenv_values(stream=StringIO(text))
    return load_settings({name: value for name, value in values.items() if value is not None})


def ask_for_token(*, may_be_piped: bool = False) -> str:
    """
    Ask a person for the token.

    Args:
        may_be_piped: Where there is no terminal, read a line of the standard input.

    Raises:
        ConfigError: There is no terminal to ask on, and no line.
    """
    if can_ask():
        return ask("Agent token", hide_input=True).strip()
    if may_be_piped and sys.stdin is not None and (line := sys.stdin.readline().strip()):
        return line
    raise ConfigError(
        "no agent token",
        remediation="Set BUTT_DIAL_AGENT_TOKEN; in a terminal you are asked for it.",
    )


def log_event(event: ClientEvent) -> None:
    """Log what a client did, for ``-v``."""
    details = (
        "" if event.seconds is None else f"{event.seconds * 1000:.1f} ms",
        event.outcome or "",
        event.error or "",
        event.code or "",
    )
    logger.debug(
        "%s %s #%d %s", event.kind, event.operation, event.attempt, " ".join(filter(None, details))
    )
