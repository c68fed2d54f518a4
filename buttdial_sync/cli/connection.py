"""From settings to a client: the environment, ``.env``, options, and a prompt for the token."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import wraps
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from buttdial_sync.cli.report import Report
from buttdial_sync.errors import ConfigError
from buttdial_sync.settings import Settings, load_settings

if TYPE_CHECKING:
    from buttdial_sync.client import Client
    from buttdial_sync.models.events import ClientEvent

logger = logging.getLogger("buttdial_sync.cli")

_DOTENV = Path(".env")
_OPTIONS = (
    click.option("--base-url", metavar="URL", help="The server [env: BUTT_DIAL_BASE_URL]."),
    click.option("--agent-id", metavar="ID", help="The agent [env: BUTT_DIAL_AGENT_ID]."),
    click.option("--timeout", type=float, metavar="SECONDS", help="Over everything; 30 if absent."),
)


def with_client(callback: Callable[..., Report]) -> Callable[..., Report]:
    """Give a command the options of a server, and a client for as long as it runs."""

    @connection_options
    @wraps(callback)
    def run(
        *args: Any,
        base_url: str | None,
        agent_id: str | None,
        timeout: float | None,
        **kwargs: Any,
    ) -> Report:
        with open_client(base_url, agent_id, timeout) as client:
            return callback(client, *args, **kwargs)

    return run


def connection_options(command: Callable[..., Report]) -> Callable[..., Report]:
    """Give a command the options ``base_url``, ``agent_id`` and ``timeout``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def open_client(
    base_url: str | None,
    agent_id: str | None,
    timeout: float | None,
    *,
    agent_token: str | None = None,
) -> Client:
    """
    Make the client that the options and the settings describe.

    Args:
        base_url: The server; that of the settings when None.
        agent_id: The agent; that of the settings when None.
        timeout: In seconds, over everything.
        agent_token: The token; that of the settings when None, else a person is asked for it.

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

    from buttdial_sync.client import Client

    return Client(**settings.for_client(agent_token=token, on_event=log_event, **given))


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
    if sys.stdin is None or not sys.stdin.isatty():
        if may_be_piped and sys.stdin is not None and (line := sys.stdin.readline().strip()):
            return line
        raise ConfigError(
            "no agent token",
            remediation="Set BUTT_DIAL_AGENT_TOKEN; in a terminal you are asked for it.",
        )
    token: str = click.prompt("Agent token", hide_input=True, err=True)
    return token.strip()


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
