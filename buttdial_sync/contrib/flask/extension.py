"""The extension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from flask import Flask, current_app

from buttdial_sync.accounts.client import AccountsClient
from buttdial_sync.client import Client
from buttdial_sync.contrib.commands import OnUndelivered
from buttdial_sync.contrib.flask.blueprints import operator_blueprint, webhook_blueprint
from buttdial_sync.contrib.flask.commands import buttdial_commands
from buttdial_sync.contrib.options import unknown_options
from buttdial_sync.contrib.shared import OnePerProcess
from buttdial_sync.errors import ConfigError
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.inbound.inbox import Inbox
from buttdial_sync.listening.listener import Listener
from buttdial_sync.operator.api import OperatorApi
from buttdial_sync.operator.directory import AgentDirectory
from buttdial_sync.retry.repository import AdminFailedMessageRepository
from buttdial_sync.settings import VARIABLES, Settings, load_settings
from buttdial_sync.shared import client_options, close_shared_client, shared_client

NAME = "buttdial"
# These may also be a path, or a tuple of paths; the client checks them.
_FILES = {"ca_bundle": "BUTT_DIAL_CA_BUNDLE", "client_cert": "BUTT_DIAL_CLIENT_CERT"}


@attrs.frozen
class _State:
    client_options: OnePerProcess[dict[str, Any]]
    accounts: OnePerProcess[AccountsClient]


class ButtDial:
    """
    The Flask extension. Safe to share between threads, and across forks.

    The client is made from ``app.config`` and, for what is missing there, from the environment:
    ``BUTT_DIAL_BASE_URL``, ``BUTT_DIAL_AGENT_ID``, ``BUTT_DIAL_AGENT_TOKEN``,
    ``BUTT_DIAL_TEAM_TOKEN``, ``BUTT_DIAL_TOKEN_IN`` and the others; ``BUTT_DIAL_CLIENT``,
    ``BUTT_DIAL_ACCOUNTS`` and ``BUTT_DIAL_LISTENER`` may hold dicts of further arguments.

    Args:
        app: The application; else call :meth:`init_app`.
        inbound: The webhooks go to this handler. Without it there are no webhooks.
        directory: The host's agents, for the operator API.
        failed_messages: The host's messages that have to be sent again, for the operator API.
        permission: Returns True if the current request may use the operator API, which there is
            only with all three. Any other value is a no. It may also abort the request.
        on_undelivered: For ``flask buttdial listen`` and ``poll``, as in
            :class:`~buttdial_sync.Listener`.
        inbox: Where these commands write what comes in before it is handled: an
            :class:`~buttdial_sync.Inbox`, such as a :class:`~buttdial_sync.SQLiteInbox`. The
            operator API lists it.
        url_prefix: Where the addresses begin: ``<prefix>/<channel>/``, ``<prefix>/operator/…``.

    Attributes:
        webhooks: The webhooks' blueprint, or None. Exempt it from the host's CSRF protection.
        operator: The operator API's blueprint, or None.

    Raises:
        ArgumentTypeError: ``permission`` is a coroutine function.
        ConfigError: One of the three that the operator API needs is missing.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        inbound: InboundHandler | None = None,
        directory: AgentDirectory | None = None,
        failed_messages: AdminFailedMessageRepository | None = None,
        permission: Callable[[], bool] | None = None,
        on_undelivered: OnUndelivered | None = None,
        inbox: Inbox | None = None,
        url_prefix: str = "/butt-dial",
    ) -> None:
        self._inbound = inbound
        self._on_undelivered = on_undelivered
        self._inbox = inbox
        self.webhooks = None if inbound is None else webhook_blueprint(inbound, url_prefix)
        self.operator = None
        if directory is not None and failed_messages is not None and permission is not None:
            self.operator = operator_blueprint(
                lambda: OperatorApi(self.client, directory, failed_messages, inbox=inbox),
                permission,
                url_prefix,
            )
        elif any(each is not None for each in (directory, failed_messages, permission)):
            raise ConfigError(
                "the operator API needs directory, failed_messages and permission",
                remediation="Give all three, or none: without a permission nobody may use it.",
            )
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """
        Add the extension to an application; those with the same settings share a client.

        Raises:
            ConfigError: One of the dicts of arguments in its configuration has an unknown name, or
                a setting is not a text.
        """
        _check_options(app)
        app.extensions[NAME] = _State(
            OnePerProcess(lambda: _make_client_options(app), close_shared_client),
            OnePerProcess(lambda: _make_accounts(app), AccountsClient.close),
        )
        for blueprint in (self.webhooks, self.operator):
            if blueprint is not None:
                app.register_blueprint(blueprint)
        app.cli.add_command(
            buttdial_commands(
                app, lambda: self.client, self._inbound, self._on_undelivered, self._inbox
            )
        )

    @property
    def client(self) -> Client:
        """
        The current application's client.

        It is the :func:`~buttdial_sync.shared_client` of its settings: made on first use, by which
        nothing is sent, and closed when the process ends.

        Raises:
            ConfigError: A setting is missing or wrong.
            RuntimeError: There is no application context.
        """
        return shared_client(**_state().client_options.get())

    @property
    def accounts(self) -> AccountsClient:
        """The current application's accounts client; see :attr:`client`."""
        return _state().accounts.get()

    def close(self, app: Flask) -> None:
        """Close an application's clients; the next use makes new ones. Calling it twice is safe."""
        state: _State = app.extensions[NAME]
        state.client_options.forget()
        state.accounts.forget()


def _state() -> _State:
    state: _State = current_app.extensions[NAME]
    return state


def _check_options(app: Flask) -> None:
    takers: dict[str, Callable[..., Any]] = {
        "BUTT_DIAL_CLIENT": Client,
        "BUTT_DIAL_ACCOUNTS": AccountsClient,
        "BUTT_DIAL_LISTENER": Listener,
    }
    for key, taker in takers.items():
        for told in unknown_options(app.config.get(key, {}), taker):
            raise ConfigError(f"{key}: {told}")
    _check_texts(app)


def _check_texts(app: Flask) -> None:
    for name in sorted(VARIABLES - set(_FILES.values())):
        if not isinstance(app.config.get(name), str | None):
            raise ConfigError(f"{name} must be a text", remediation=f"Set app.config[{name!r}].")


def _settings(app: Flask) -> Settings:
    _check_texts(app)
    texts = {
        name: value
        for name, value in app.config.items()
        if name.startswith("BUTT_DIAL_") and isinstance(value, str)
    }
    files = {
        field: app.config[name]
        for field, name in _FILES.items()
        if app.config.get(name) is not None and name not in texts
    }
    return attrs.evolve(load_settings(texts), **files).filled_from(load_settings())


def _make_client_options(app: Flask) -> dict[str, Any]:
    return client_options(_settings(app).for_client(**app.config.get("BUTT_DIAL_CLIENT", {})))


def _make_accounts(app: Flask) -> AccountsClient:
    return AccountsClient(**_settings(app).for_accounts(**app.config.get("BUTT_DIAL_ACCOUNTS", {})))
