"""The client of one agent."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from buttdial_sync.agent import AgentView
from buttdial_sync.calls.recipients import RecipientCheck
from buttdial_sync.calls.tool_call import AgentContext
from buttdial_sync.connection import Connection
from buttdial_sync.errors.scrubbing import masked, masked_items
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.settings import (
    SendVia,
    TokenIn,
    check_send_via,
    load_settings,
    own_variables,
)
from buttdial_sync.transport.network import NetworkOptions

if TYPE_CHECKING:
    from requests.adapters import BaseAdapter

_MIB = 1024 * 1024


class Client(AgentView):
    """
    A blocking client of one agent, or of several with :meth:`as_agent`.

    One client serves a whole process: threads share it freely, and a forked child opens sessions of
    its own. Nothing is sent before the first call. Use it as a context manager or :meth:`close` it.

    Args:
        base_url: The server, as in ``https://butt-dial.example``; with or without ``/sse``.
        agent_id: The agent's id.
        agent_token: The agent's token.
        timeout: Seconds that a whole call may take: connecting, posting, waiting, all attempts.
        connect_timeout: Seconds for each address of the host, at most its share of the time.
        max_attempts: Attempts in all; only what was certainly not carried out, or does no harm
            twice, is tried again.
        token_in: Where the token goes when a stream is opened: ``"header"``, ``"query"``, or
            ``"auto"`` to find out. In a URL only over https or on this machine.
        send_via: How ``send_message`` sends: over the ``"stream"``, or with one ``"rest"`` request,
            which opens none and leaves the waiting queue alone. The open-source server has both.
            ``"auto"`` takes the stream, and REST where the token goes into the URL. Such a client
            opens no stream that would throw away what waits: other calls raise ``ConfigError``
            there, unless it has ``before_open`` or a listener.
        max_event_bytes: Larger answers end the session.
        max_sessions: Sessions held at once, one for each token; the one idle for longest goes.
        idle_ping: Seconds of silence after which a stream is pinged before it is used.
        close_idle_after: Seconds after which an unused session is closed, at the next call of
            another token; None keeps it. On the open-source server opening it again empties the
            agent's waiting queue.
        check_schema: Ask the server's schemas, once per session, before a call that not every
            server understands: an optional argument, a preview, a tool that one of them lacks or
            names otherwise. False sends it as it is: arguments may be dropped silently, and on the
            open-source server a preview is carried out.
        check_recipients: Refuse a recipient that the channel cannot reach, before anything is sent:
            servers take any text and say "sent". False sends it as it is.
        default_region: The country of numbers without a country code, as in ``"AU"``. It needs the
            ``phonenumbers`` extra. When None, such numbers are refused.
        before_open: Gets the messages that wait for the agent, before each stream is opened:
            opening one empties the queue on the open-source server. It must not call the client.
        ca_bundle: Path of the certificates (PEM) that the server's is checked with. When None,
            ``REQUESTS_CA_BUNDLE`` and those of ``certifi``.
        client_cert: Path of a PEM file with a certificate and its key, or a tuple of both paths,
            for a server that wants to know the client by it.
        proxies: The proxy for each scheme, as in ``{"https": "http://proxy:3128"}``; ``{}`` for
            none. When None, those of the environment.
        headers: Sent with every request, for a gateway. Tokens are refused here.
        transport_adapter: Sends the requests instead of the library's connections. It is closed
            with the client; see :doc:`/configuration`.
        on_event: Called for each attempt, answer, retry and connection, in the calling thread. It
            must not call the client.
        clock: A monotonic clock in seconds, for tests.
        sleep: Sleeps for some seconds between attempts, for tests.
        random_fraction: Gives numbers from 0 to 1 for the jitter, for tests.

    Raises:
        ConfigError: An argument is missing or wrong.
    """

    def __init__(
        self,
        base_url: str,
        *,
        agent_id: str | None = None,
        agent_token: str | None = None,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        max_attempts: int = 3,
        token_in: TokenIn = "auto",
        send_via: SendVia = "stream",
        max_event_bytes: int = 16 * _MIB,
        max_sessions: int = 256,
        idle_ping: float = 60.0,
        close_idle_after: float | None = None,
        check_schema: bool = True,
        check_recipients: bool = True,
        default_region: str | None = None,
        before_open: Callable[[Sequence[WaitingMessage]], object] | None = None,
        ca_bundle: str | os.PathLike[str] | None = None,
        client_cert: str | tuple[str, str] | None = None,
        proxies: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        transport_adapter: BaseAdapter | None = None,
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        agent_token, proxies, headers = masked(agent_token), masked(proxies), masked(headers)
        connection = Connection(
            base_url,
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_attempts=max_attempts,
            network=NetworkOptions(
                ca_bundle=ca_bundle,
                client_cert=client_cert,
                proxies=proxies,
                headers=headers,
                transport_adapter=transport_adapter,
            ),
            on_event=on_event,
            clock=clock,
            sleep=sleep,
            random_fraction=random_fraction,
        )
        connection.hold_sessions(
            token_in=token_in,
            before_open=before_open,
            max_event_bytes=max_event_bytes,
            max_sessions=max_sessions,
            idle_ping=idle_ping,
            close_idle_after=close_idle_after,
            leaves_queue=send_via == "auto",
        )
        super().__init__(
            AgentContext(
                connection,
                agent_id=agent_id,
                token=agent_token,
                check_schema=check_schema,
                send_via=check_send_via(send_via, "send_via") or "stream",
                recipients=RecipientCheck(is_on=check_recipients, default_region=default_region),
            )
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Client:
        """
        Make a client from the environment.

        It reads ``BUTT_DIAL_BASE_URL`` (else ``BUTT_DIAL_URL``), ``BUTT_DIAL_AGENT_ID``,
        ``BUTT_DIAL_AGENT_TOKEN``, ``BUTT_DIAL_TOKEN_IN``, ``BUTT_DIAL_SEND_VIA``,
        ``BUTT_DIAL_CA_BUNDLE`` and ``BUTT_DIAL_CLIENT_CERT``.

        Args:
            environ: Where to look; ``os.environ`` when None.
            **overrides: Arguments of the constructor, which win over the environment.

        Raises:
            ConfigError: There is no base URL, or a value is wrong.
        """
        overrides = masked_items(overrides)
        environ = own_variables(environ)
        return cls(**load_settings(environ).for_client(**overrides))

    def close(self, timeout: float = 2.0) -> None:
        """
        End everything: sessions, requests under way, pauses. Idempotent, from any thread.

        Running calls end (with :class:`ClientClosedError`, or a result whose outcome is
        unknown); later calls raise :class:`ClientClosedError`. Network faults raise nothing.

        Args:
            timeout: How long to wait for the threads to end, in seconds.
        """
        self._agent.connection.close(timeout)

    def __enter__(self) -> Client:
        return self
