"""The blocking client of Procedura: ``RemoteAgent``."""

from __future__ import annotations

import base64
import os
import ssl
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, NoReturn

import attrs

from buttdial_sync.errors import (
    ArgumentValueError,
    AuthError,
    ClientClosedError,
    ConfigError,
)
from buttdial_sync.errors.scrubbing import Secret, masked, masked_items, scrub
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.procedura.calls import ModuleCall
from buttdial_sync.procedura.connection import ProceduraConnection, Request
from buttdial_sync.procedura.errors import (
    AckTimeoutError,
    ModuleUnknownError,
    ProceduraProtocolError,
    ResultTimeoutError,
    raised_as_procedura_errors,
)
from buttdial_sync.procedura.events import Diagnosis, Login, StreamEvent
from buttdial_sync.procedura.frames import event_of, module_error
from buttdial_sync.procedura.tokens import DEFAULT_URL, FileTokenStore, TokenStore
from buttdial_sync.settings import check_count
from buttdial_sync.transport.deadline import Deadline, check_seconds
from buttdial_sync.transport.fork import reset_after_fork, reset_if_forked
from buttdial_sync.transport.network import is_private
from buttdial_sync.transport.websocket_opening import (
    WebSocketOptions,
    check_websocket_url,
)

ACK_TIMEOUT = 10.0
FINAL_TIMEOUT = 600.0
EVENT_TIMEOUT = 3600.0
_LONGEST = 365 * 24 * 3600.0
_MIB = 1024 * 1024


class RemoteAgent:
    """
    Runs modules of an agent in a world.

    Safe to share between threads, greenlets and forked processes, and in a running event loop. All
    calls share one connection, which is opened by the first and replaced when it is lost. A
    request is never sent twice: the server has no key by which it would know it again.

    Args:
        url: The server, with ``ws://`` or ``wss://``, used as given.
        token: A session token; else the stored one, else that of :meth:`login_password`.
        account: Whose stored token to use; the one saved last when None.
        device: The device whose stored token to use; any when None. :meth:`login_password` logs it
            in, or ``"cli"`` when None.
        token_store: Keeps tokens: a :class:`TokenStore`, None for nowhere, or ``"auto"``: the file
            that :class:`FileTokenStore` describes, but nowhere in a process that has loaded Django
            or Flask.
        connect_timeout: Seconds for opening the connection: proxy, TLS, upgrade.
        ping_interval: Seconds between pings.
        ping_timeout: Seconds after which an unanswered ping ends the connection.
        max_size: Larger results end the connection, in bytes.
        compress: Offer to compress messages: for large results over slow networks. It makes small
            ones slower.
        ssl_context: TLS settings for ``wss://``.
        ca_file: A file of certificates to trust, instead of the usual ones.
        pin_sha256: SHA-256 of the certificate (or of several) that the server must have. Checked
            besides the usual verification, before the token is sent.
        insecure_hosts: Hosts to which token and password may go over ``ws://``. This machine is
            always allowed.
        on_event: Called for each request, its end and each connection, in the calling thread.
        clock: A monotonic clock in seconds, for tests.

    Raises:
        ProceduraConfigError: An argument is wrong.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        account: str | None = None,
        device: str | None = None,
        token_store: TokenStore | Literal["auto"] | None = "auto",
        connect_timeout: float = 10.0,
        ping_interval: float = 20.0,
        ping_timeout: float = 20.0,
        max_size: int = 8 * _MIB,
        compress: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        ca_file: str | None = None,
        pin_sha256: str | Collection[str] = (),
        insecure_hosts: Collection[str] = (),
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        token = masked(token)  # frames are shown, that of a constructor that raises too
        with raised_as_procedura_errors():
            self.url = check_websocket_url(url, "url")
            self.account = account
            self.device = device
            self._insecure_hosts = insecure_hosts
            self._store = _default_store() if token_store == "auto" else token_store
            self._token = token or None
            self._can_load_again = False
            self._closed = False
            self._clock = clock
            options = WebSocketOptions(
                connect_timeout=check_seconds(connect_timeout, "connect_timeout"),
                ping_interval=check_seconds(ping_interval, "ping_interval"),
                ping_timeout=check_seconds(ping_timeout, "ping_timeout"),
                max_size=check_count(max_size, "max_size"),
                ssl_context=ssl_context,
                ca_file=ca_file,
                pins=pin_sha256,
                insecure_hosts=insecure_hosts,
                token_as_subprotocol=True,
                compress=compress,
                clock=clock,
            )
            self._connection = ProceduraConnection(self.url, options, on_event)
        self._reset_after_fork()
        reset_after_fork(self)

    def _reset_after_fork(self) -> None:
        """In a forked child: only calls after the fork count, and nobody holds the lock."""
        self._used = False
        self._lock = threading.Lock()

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> RemoteAgent:
        """
        Make an agent for ``PROCEDURA_URL``, or for the default address on this machine.

        Args:
            environ: Where to look; ``os.environ`` when None.
            **overrides: Arguments of the constructor, which win over the environment.

        Raises:
            ProceduraConfigError: A value is wrong.
        """
        overrides = masked_items(overrides)
        found = (os.environ if environ is None else environ).get("PROCEDURA_URL", "").strip()
        del environ  # frames are shown, and should not show all of it
        return cls(**{"url": found or DEFAULT_URL, **overrides})

    def login_password(
        self,
        credential: str,
        *,
        replace: bool = True,
        device: str | None = None,
        ttl: int = 3600,
        ack_timeout: float = ACK_TIMEOUT,
        final_timeout: float = FINAL_TIMEOUT,
    ) -> Login:
        """
        Log in, use the session token from now on, and store it where tokens are stored.

        No stored token is sent with it. Calls under way end with the token that they began with.

        Args:
            credential: ``email:password``, or that in base64, with or without ``b64:`` before it.
            replace: Whether the login replaces a session of this device; otherwise it attaches.
            device: The device; the agent's, or ``"cli"``, when None. A device keeps its token.
            ttl: Seconds that the session lives.
            ack_timeout: As for :meth:`run`.
            final_timeout: As for :meth:`run`.

        Raises:
            ProceduraAuthError: The server refused the credential.
            ProceduraConfigError: The password would travel unencrypted, or the token cannot be
                stored; then the agent is logged in all the same.
            ProceduraError: As for :meth:`run`.
        """
        credential = Secret(credential)
        device = device or self.device or "cli"
        with raised_as_procedura_errors():
            if not credential:
                raise ArgumentValueError("credential must be email:password")
            if not is_private(self.url, self._insecure_hosts):
                raise ConfigError(
                    "the password would travel unencrypted, and everybody on the way could read it",
                    remediation="Use wss://, or name the host in insecure_hosts.",
                )
            how = "--replace" if replace else "--attach"
            args = [credential, how, f"--device={device}", f"--ttl={check_count(ttl, 'ttl')}"]
            request = Request.of("login_password", args, "sync", "")
            account = _account_of(credential)
            login = _login_of(self._result(request, ack_timeout, final_timeout), account, device)
            self._adopt(login)
        return login

    def run(
        self,
        module: str,
        args: Sequence[str] = (),
        *,
        ack_timeout: float = ACK_TIMEOUT,
        final_timeout: float = FINAL_TIMEOUT,
    ) -> Any:
        """
        Run a module and wait for its result.

        Args:
            module: The module's name.
            args: Its arguments, passed on untouched.
            ack_timeout: Seconds until the server has acknowledged the request.
            final_timeout: Seconds for the whole call: connecting, sending, the result.

        Returns:
            The result, any JSON, also None.

        Raises:
            ModuleUnknownError: The server has no such module.
            ModuleFailedError: The module failed. ``code``, the message and ``details`` are the
                server's.
            ProceduraAuthError: The token was refused.
            AckTimeoutError: No acknowledgement in time; the module may run.
            ResultTimeoutError: No result in time; the module may still run.
            ConnectionLostError: The connection was lost meanwhile; the module may run.
            ProceduraTransportError: The server could not be reached. Nothing was sent.
        """
        with raised_as_procedura_errors():
            request = Request.of(module, args, "sync", self._current_token())
            return self._result(request, ack_timeout, final_timeout)

    def stream(
        self,
        module: str,
        args: Sequence[str] = (),
        *,
        ack_timeout: float = ACK_TIMEOUT,
        event_timeout: float = EVENT_TIMEOUT,
        timeout: float | None = None,
    ) -> Iterator[StreamEvent]:
        """
        Run a module and yield its events as they come.

        The request is sent when the first event is asked for. The last event is :class:`Finished`
        or :class:`Failed`. Closing the generator frees everything; the module goes on.

        Args:
            module: The module's name.
            args: Its arguments, passed on untouched.
            ack_timeout: Seconds until the first event.
            event_timeout: Seconds from each event to the next.
            timeout: Seconds for the whole stream; None for no limit.

        Yields:
            :class:`Started`, any number of :class:`Running`, and :class:`Finished` or
            :class:`Failed`.

        Raises:
            AckTimeoutError: No first event in time.
            ResultTimeoutError: No next event in time.
            ProceduraError: Otherwise as for :meth:`run`.
        """
        with raised_as_procedura_errors():
            check_seconds(ack_timeout, "ack_timeout")
            check_seconds(event_timeout, "event_timeout")
            seconds = _LONGEST if timeout is None else check_seconds(timeout, "timeout")
            request = Request.of(module, args, "async", "")
        return self._events(request, ack_timeout, event_timeout, seconds)

    run_async_stream = stream

    def worldstate_snapshot(
        self,
        *,
        terse: bool = False,
        ack_timeout: float = ACK_TIMEOUT,
        final_timeout: float = FINAL_TIMEOUT,
    ) -> Any:
        """
        Return the state of the world as the agent sees it.

        Args:
            terse: Ask for the short form.
            ack_timeout: As for :meth:`run`.
            final_timeout: As for :meth:`run`.

        Raises:
            ProceduraError: As for :meth:`run`.
        """
        args = ["--terse"] if terse else []
        return self.run(
            "worldstate_snapshot", args, ack_timeout=ack_timeout, final_timeout=final_timeout
        )

    def keepalive(
        self, *, ack_timeout: float = ACK_TIMEOUT, final_timeout: float = FINAL_TIMEOUT
    ) -> bool:
        """
        Tell the server that the session is still wanted. Pings keep the connection open without it.

        Args:
            ack_timeout: As for :meth:`run`.
            final_timeout: As for :meth:`run`.

        Returns:
            Whether the server has the module ``__keepalive``.

        Raises:
            ProceduraError: As for :meth:`run`.
        """
        try:
            self.run("__keepalive", ack_timeout=ack_timeout, final_timeout=final_timeout)
        except ModuleUnknownError:
            return False
        return True

    def diag(
        self, *, ack_timeout: float = ACK_TIMEOUT, final_timeout: float = FINAL_TIMEOUT
    ) -> Diagnosis:
        """
        Return what is known about the connection: its round trip, and what the server tells.

        Args:
            ack_timeout: As for :meth:`run`.
            final_timeout: As for :meth:`run`.

        Raises:
            ProceduraError: As for :meth:`run`.
        """
        metrics = self._result_if_known("__diag_ws_metrics", ack_timeout, final_timeout)
        auth = self._result_if_known("__diag_auth", ack_timeout, final_timeout)
        with raised_as_procedura_errors():
            seconds = self._connection.ping(self._current_token(), Deadline(ACK_TIMEOUT))
        return Diagnosis(url=self.url, seconds=seconds, ws_metrics=metrics, auth=auth)

    def close(self, timeout: float = 2.0) -> None:
        """
        End the connection with a Close frame. Idempotent, from any thread.

        Running calls end with an error; later ones raise :class:`ProceduraClosedError`. Network
        faults raise nothing.

        Args:
            timeout: How long to wait for the server and the threads, in seconds.
        """
        reset_if_forked()
        self._closed = True
        self._connection.close(timeout)

    def __enter__(self) -> RemoteAgent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        url = scrub(self.url)  # what is used as given may have a token in its query
        return f"RemoteAgent({url!r}, account={self.account!r}, device={self.device!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an agent cannot be pickled: make one in each process")

    def __del__(self) -> None:
        # A constructor that raised has left nothing.
        if not getattr(self, "_used", False) or self._closed:
            return
        warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
        if not sys.is_finalizing():  # then everything ends anyway
            self._connection.abandon()

    def _current_token(self) -> str:
        token = self._token
        if token is None and self._store is not None:
            found = self._store.load(self.url, self.account, self.device)
            with self._lock:
                if self._token is None:  # nobody has logged in meanwhile
                    self._token = Secret(found) if found else None
                    self._can_load_again = True
                token = self._token
        return token or ""

    def _adopt(self, login: Login) -> None:
        token = Secret(login.session_token)
        with self._lock:
            before, self._token = self._token, token
            self._can_load_again = self._store is not None
        for other in {"", before or ""} - {token}:
            self._connection.drop(other)
        if self._store is not None:
            self._store.save(self.url, login.account, login.device, token)

    def _result_if_known(self, module: str, ack_timeout: float, final_timeout: float) -> Any:
        try:
            return self.run(module, ack_timeout=ack_timeout, final_timeout=final_timeout)
        except ModuleUnknownError:
            return None

    def _result(self, request: Request, ack_timeout: float, final_timeout: float) -> Any:
        self._begin()
        check_seconds(ack_timeout, "ack_timeout")
        deadline = Deadline(check_seconds(final_timeout, "final_timeout"), self._clock)
        try:
            with self._connection.call(request, deadline) as call:
                while not call.is_done:
                    frame = _next(call, request, deadline, ack_timeout)
                if frame["status"] == "error":
                    raise module_error(request.module, frame, (request.token, *request.args))
        except AuthError:
            self._refused(request.token)
            raise
        return frame.get("result")

    def _events(
        self, request: Request, ack_timeout: float, event_timeout: float, seconds: float
    ) -> Iterator[StreamEvent]:
        with raised_as_procedura_errors():
            self._begin()
            request = attrs.evolve(request, token=Secret(self._current_token()))
            deadline = Deadline(seconds, self._clock)
            try:
                with self._connection.call(request, deadline) as call:
                    while not call.is_done:
                        limit = deadline.within(event_timeout)
                        frame = _next(call, request, limit, ack_timeout)
                        event = event_of(request.module, frame, (request.token,))
                        if event is not None:
                            yield event
            except AuthError:
                self._refused(request.token)
                raise

    def _begin(self) -> None:
        reset_if_forked()
        if self._closed:
            raise ClientClosedError("the agent is closed")
        self._used = True

    def _refused(self, token: str) -> None:
        with self._lock:
            if self._can_load_again and self._token == token:
                self._token = None  # another process may have logged in meanwhile


def _next(
    call: ModuleCall, request: Request, deadline: Deadline, ack_timeout: float
) -> dict[str, Any]:
    """Return the next frame of a call; until the first has come, wait no longer than for that."""
    if not call.is_bound:
        frame = call.next(deadline.within(ack_timeout))
        if frame is not None:
            return frame
        if not call.is_bound:
            raise AckTimeoutError(
                f"{request.module} was not acknowledged within {ack_timeout:g} s",
                code="ACK_TIMEOUT",
            )
    frame = call.next(deadline)
    if frame is None:
        raise ResultTimeoutError(
            f"nothing new of {request.module} within {deadline.seconds:g} s", code="FINAL_TIMEOUT"
        )
    return frame


def _default_store() -> TokenStore | None:
    # In a web application the host owns what is kept on disk.
    return None if {"django", "flask"} & sys.modules.keys() else FileTokenStore()


def _account_of(credential: str) -> str | None:
    """Return the address of a credential, or None if it cannot be read."""
    is_plain = ":" in credential and not credential.startswith("b64:")
    try:
        text = (
            credential
            if is_plain
            else base64.b64decode(credential.removeprefix("b64:"), validate=True).decode()
        )
    except ValueError:
        return None
    account, colon, _ = text.partition(":")
    return account if colon else None


def _login_of(result: Any, account: str | None, device: str) -> Login:
    result = masked_items(result) if isinstance(result, dict) else {}  # frames are shown
    token = result.get("session_token")
    if not isinstance(token, str) or not token:
        raise ProceduraProtocolError(
            "the login was answered without a session_token", outcome="rejected"
        )
    told = result.get("account")
    return Login(
        session_token=Secret(token),
        account=told if isinstance(told, str) else account,
        device=device,
        raw=result,
    )
