"""The objects of each process, made from the settings on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from buttdial_sync.accounts.client import AccountsClient
from buttdial_sync.client import Client
from buttdial_sync.contrib.django.conf import NAME, app_settings, imported
from buttdial_sync.contrib.django.deliveries import DatabaseDeliveryLog
from buttdial_sync.contrib.django.inbox import get_inbox
from buttdial_sync.contrib.django.signals import forward_to_signals
from buttdial_sync.contrib.shared import OnePerProcess
from buttdial_sync.errors import ConfigError
from buttdial_sync.inbound.handler import InboundHandler
from buttdial_sync.operator.api import OperatorApi
from buttdial_sync.shared import client_options, close_shared_client, shared_client

if TYPE_CHECKING:
    from buttdial_sync.ailoop.client import AiloopClient

_INBOUND = (
    "whatsapp_verify_token",
    "whatsapp_webhook_secret",
    "account_webhook_secret",
    "allow_unsigned",
    "max_body_bytes",
    "lease",
)


def get_client() -> Client:
    """
    Return this process's client.

    It is the :func:`~buttdial_sync.shared_client` of the settings: made on first use, by which
    nothing is sent, shared by threads and forked workers, and closed when the process ends.

    Raises:
        ConfigError: A setting is missing or wrong.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    return shared_client(**_client_options.get())


def get_accounts() -> AccountsClient:
    """
    Return this process's accounts client; see :func:`get_client`.

    Raises:
        ConfigError: A setting is missing or wrong.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    return _accounts.get()


def get_ailoop() -> AiloopClient:
    """
    Return this process's client of ailoop; see :func:`get_client`.

    Raises:
        ConfigError: A setting is missing or wrong, or the extra ``ailoop`` is not installed.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    return _ailoop.get()


def get_handler() -> InboundHandler:
    """
    Return this process's inbound handler: the one that ``HANDLER`` names, else one of the settings.

    It sends the signals of ``buttdial_sync.contrib.django.signals``.

    Raises:
        ConfigError: A setting is wrong.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    return _handler.get()


def get_operator_api() -> OperatorApi | None:
    """
    Return this process's operator API; None when the settings have none.

    Raises:
        ConfigError: A setting is missing or wrong.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    return _operator_api.get()


def make_handler(**options: Any) -> InboundHandler:
    """
    Make an inbound handler of the settings, for a host that names its own in ``HANDLER``.

    Deliveries are remembered in the database. Each call makes another handler.

    Args:
        **options: Arguments of :class:`~buttdial_sync.InboundHandler`, which win over the settings.

    Raises:
        ConfigError: A setting or an argument is wrong.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    configured = app_settings()
    given = {name: value for name in _INBOUND if (value := getattr(configured, name)) is not None}
    deferred = {"inbox": get_inbox(), "deferred": True} if configured.deferred else {}
    return InboundHandler(**{"delivery_log": DatabaseDeliveryLog(), **given, **deferred, **options})


def forget_everything() -> None:
    """Close everything; the next use makes it again. For tests that change the settings."""
    for each in (_client_options, _accounts, _ailoop, _handler, _operator_api):
        each.forget()


def _make_client_options() -> dict[str, Any]:
    configured = app_settings()
    return client_options(configured.for_client(**configured.client))


def _make_accounts() -> AccountsClient:
    configured = app_settings()
    return AccountsClient(**configured.for_accounts(**configured.accounts))


def make_ailoop() -> AiloopClient:
    """
    Make a client of ailoop of the settings, which the caller closes.

    Raises:
        ConfigError: A setting is missing or wrong, or the extra ``ailoop`` is not installed.
        ImproperlyConfigured: ``BUTT_DIAL`` is wrong.
    """
    try:
        from buttdial_sync.ailoop.client import AiloopClient
    except ImportError as missing:
        raise ConfigError(
            str(missing), remediation="pip install 'buttdial-sync[ailoop]'"
        ) from missing
    try:
        return AiloopClient.from_env(**app_settings().ailoop)
    except TypeError as error:
        raise ImproperlyConfigured(f"{NAME}['AILOOP'] is wrong: {error}") from error


def _import_hosts_modules() -> None:
    configured = app_settings()
    if configured.handler:
        imported(configured.handler, "HANDLER")
    if configured.on_undelivered:
        imported(configured.on_undelivered, "ON_UNDELIVERED")


def _make_handler() -> InboundHandler:
    path = app_settings().handler
    handler = imported(path, "HANDLER") if path else make_handler()
    if not isinstance(handler, InboundHandler):
        raise ImproperlyConfigured(f"{NAME}['HANDLER'] must name an InboundHandler")
    forward_to_signals(handler, has_others=bool(path))
    keep = app_settings().on_undelivered
    if keep:
        function = imported(keep, "ON_UNDELIVERED")
        handler.remove(function)  # a handler of the host may have it from earlier settings
        handler.on_unreadable(function)
    return handler


def _make_operator_api() -> OperatorApi | None:
    configured = app_settings()
    if not configured.agent_directory or not configured.failed_messages:
        return None
    return OperatorApi(
        get_client(),
        _made(configured.agent_directory, "AGENT_DIRECTORY"),
        _made(configured.failed_messages, "FAILED_MESSAGES"),
        inbox=get_inbox(),
    )


def _made(path: str, key: str) -> Any:
    found = imported(path, key)
    return found() if callable(found) else found


_client_options = OnePerProcess(_make_client_options, close_shared_client)
_accounts = OnePerProcess(_make_accounts, AccountsClient.close)
_ailoop = OnePerProcess(make_ailoop, lambda client: client.close(0.0))
_handler = OnePerProcess(_make_handler, prepare=_import_hosts_modules)
_operator_api = OnePerProcess(_make_operator_api)
