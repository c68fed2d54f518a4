"""The client of one agent."""

from __future__ import annotations

import copy
import random
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from buttdial_sync.models.events import ClientEvent
from buttdial_sync.models.inbox import WaitingMessage
from buttdial_sync.settings import TokenIn, check_count, check_token_in, load_settings
from buttdial_sync.tools.agent import Agent
from buttdial_sync.tools.arguments import checked
from buttdial_sync.tools.caller import AgentCaller, Identity
from buttdial_sync.tools.subscriptions import Subscriber, Subscription, Subscriptions
from buttdial_sync.tools.waiting import QueueWatch
from buttdial_sync.transport.deadline import check_seconds
from buttdial_sync.transport.opening import SessionOpener
from buttdial_sync.transport.pool import SessionPool
from buttdial_sync.transport.rest import Rest
from buttdial_sync.transport.runtime import Runtime, check_base_url
from buttdial_sync.transport.session import SessionOptions

_MIB = 1024 * 1024


class Client(Agent):
    """
    A blocking client of one agent, or of several with :meth:`as_agent`.

    One client serves a whole process: threads share it freely, and a forked child opens sessions of
    its own. Nothing is sent before the first call. Use it as a context manager or :meth:`close` it.

    Args:
        base_url: The server, as in ``https://butt-dial.example``; with or without ``/sse``.
        agent_id: The agent's id.
        agent_token: The agent's token.
        timeout: Seconds that a whole call may take: connecting, posting, waiting, all attempts.
        connect_timeout: Seconds for each connection.
        max_attempts: Attempts in all; only what was certainly not carried out, or does no harm
            twice, is tried again.
        token_in: Where the token goes when a stream is opened: ``"header"``, ``"query"``, or
            ``"auto"`` to find out. In a URL only over https or on this machine.
        max_event_bytes: Larger answers end the session.
        max_sessions: Sessions held at once, one for each token; the one idle for longest goes.
        idle_ping: Seconds of silence after which a stream is pinged before it is used.
        check_schema: Ask the server's schemas, once per session, before a call that not every
            server understands: an optional argument, a preview, a tool that one of them lacks or
            names otherwise. False sends it as it is: arguments may be dropped silently, and on the
            open-source server a preview is carried out.
        before_open: Gets the messages that wait for the agent, before each stream is opened:
            opening one empties the queue on the open-source server. It may not call the client.
        on_event: Told of each attempt, answer, retry and connection, in the calling thread.
        clock: A monotonic clock in seconds, for tests.
        sleep: Sleeps for some seconds between attempts, for tests.
        random_fraction: Gives numbers from 0 to 1 for the jitter, for tests.

    Attributes:
        base_url: The server.
        whatsapp: Reactions, polls, buttons, … on WhatsApp.
        voice: Calls and speech.
        sessions: Conversations with several participants.
        consent: What contacts have agreed to.
        trust: Which contacts the agent trusts.
        otp: One-time passcodes.
        directory: Other agents, contacts, groups and numbers.
        inbox: What comes in.
        billing: Usage, costs and income.
        profile: The agent itself.
        organization: What administrators may do.

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
        max_event_bytes: int = 16 * _MIB,
        max_sessions: int = 32,
        idle_ping: float = 60.0,
        check_schema: bool = True,
        before_open: Callable[[Sequence[WaitingMessage]], None] | None = None,
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self._closed = True  # until the constructor is through, for __del__
        self.base_url = check_base_url(base_url)
        self._runtime = Runtime(
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_attempts=max_attempts,
            on_event=on_event,
            clock=clock,
            sleep=sleep,
            random_fraction=random_fraction,
        )
        rest = Rest(self._runtime.http, self.base_url)
        self._subscriptions = Subscriptions(rest, before_open)
        self._opener = SessionOpener(
            self._runtime.http,
            self.base_url,
            token_in=check_token_in(token_in, "token_in") or "auto",
            options=SessionOptions(
                max_event_bytes=check_count(max_event_bytes, "max_event_bytes"),
                on_notification=self._subscriptions.pushed,
                on_end=self._subscriptions.ended,
                clock=clock,
            ),
            before_open=self._subscriptions.before_open,
            on_event=self._runtime.emit,
        )
        self._pool = SessionPool(
            self._opener.open,
            max_sessions=check_count(max_sessions, "max_sessions"),
            idle_ping=check_seconds(idle_ping, "idle_ping"),
        )
        identity = Identity(agent_id=agent_id, agent_token=agent_token)
        caller = AgentCaller(self._runtime, self._pool, rest, identity, check_schema=check_schema)
        super().__init__(caller, QueueWatch(is_drained=before_open is not None))
        self._owner: Client | None = None
        self._closed = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Client:
        """
        Make a client of what the environment says.

        It reads ``BUTT_DIAL_BASE_URL`` (else ``BUTT_DIAL_URL``), ``BUTT_DIAL_AGENT_ID``,
        ``BUTT_DIAL_AGENT_TOKEN`` and ``BUTT_DIAL_TOKEN_IN``.

        Args:
            environ: Where to look; ``os.environ`` when None.
            **overrides: Arguments of the constructor, which win over the environment.

        Raises:
            ConfigError: There is no base URL, or a value is wrong.
        """
        settings = load_settings(environ)
        found = {
            "base_url": settings.base_url,
            "agent_id": settings.agent_id,
            "agent_token": settings.agent_token,
            "token_in": settings.token_in or "auto",
        }
        return cls(**{**found, **overrides})

    @checked
    def as_agent(self, agent_token: str, *, agent_id: str | None = None) -> Client:
        """
        Return a client that speaks as another agent, over the connections of this one.

        It costs nothing, so a host with many agents makes one where it needs one. Closing it does
        nothing; closing this client ends it too. Safe to call twice.

        Args:
            agent_token: The other agent's token.
            agent_id: Its id.

        Returns:
            The client.

        Raises:
            ArgumentValueError: An argument is blank.
        """
        view = copy.copy(self)
        identity = Identity(agent_id=agent_id, agent_token=agent_token)
        view._speak_through(self._caller.speaking_as(identity), self._watch)
        view._owner = self._owner or self
        view._closed = True  # it has nothing of its own that could be left open
        return view

    @property
    def timeout(self) -> float:
        """How long a whole call may take, in seconds, unless it says otherwise."""
        return self._runtime.timeout

    def _subscribe(self, subscriber: Subscriber) -> Subscription:
        """Let a listener take in what comes for this agent."""
        return Subscription(self._caller, self._subscriptions, subscriber)

    def close(self, timeout: float = 2.0) -> None:
        """
        End everything: sessions, requests under way, pauses. Idempotent, from any thread.

        Calls that wait are told (:class:`ClientClosedError`, or a result whose outcome is
        unknown); later calls raise :class:`ClientClosedError`. Network faults raise nothing. A
        client that :meth:`as_agent` returned is left as it is.

        Args:
            timeout: How long to wait for the threads to end, in seconds.
        """
        if self._owner is not None:
            return
        self._closed = True
        if self._runtime.close():
            self._opener.close()
            self._pool.close(timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._pool.count:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        return f"Client({self.base_url!r}, agent_id={self._caller.identity.agent_id!r})"
