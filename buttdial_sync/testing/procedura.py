"""
A Procedura server for tests: a real WebSocket server on a port of 127.0.0.1.

Its modules are plain functions or scripts of frames, it fails on demand, and it names requests and
jobs in each of the ways that are known of servers. It needs ``buttdial-sync[procedura]``.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Literal, get_args

import attrs

try:
    from websockets.exceptions import ConnectionClosed
    from websockets.http11 import Request, Response
    from websockets.protocol import State
    from websockets.sync.server import Server, ServerConnection, serve
except ImportError as error:
    raise ImportError(
        "FakeProceduraServer needs the package websockets: pip install 'buttdial-sync[procedura]'"
    ) from error

from buttdial_sync.testing.raised import RaisedErrors, described

Addressing = Literal["id", "job_id", "both", "id_is_job", "no_id"]
"""
How the frames after the first name their call.

``"id"``: by the request. ``"job_id"``: by the job. ``"both"``. ``"id_is_job"``: by the job, under
the name ``id``. ``"no_id"``: by the job, and ``started`` names only the job, too.
"""

ProceduraFault = Literal[
    "no_ack", "silence", "drop", "close", "garbage", "not_an_object", "large", "http"
]
"""
What can go wrong with one request (``"http"``: with one upgrade).

``"no_ack"``: nothing is answered. ``"silence"``: it is acknowledged, and nothing follows.
``"drop"``: the connection is cut after the acknowledgement. ``"close"``: a Close frame with
``code`` instead of an answer, before the acknowledgement for 4401, otherwise after it.
``"garbage"``: a frame that is not JSON. ``"not_an_object"``: ``[1, 2, 3]``. ``"large"``: a result
of 9 MB. ``"http"``: the upgrade is answered with the status ``code``.
"""

TokenCheck = Literal["off", "error", "http401", "close4401"]
"""What happens to a connection without a valid token."""

Module = Callable[[list[str]], Any]

_HOST = "127.0.0.1"
_JOIN_SECONDS = 10.0
_LARGE = 9_000_000
_INVALID_TOKEN = {"message": "Invalid token", "code": "AUTH_ERROR"}
_silent = logging.Logger("fake-butt-dial-procedura", logging.CRITICAL)
_running: weakref.WeakSet[FakeProceduraServer] = weakref.WeakSet()


class ModuleFailure(Exception):  # noqa: N818 - it is what a module ends with
    """
    Raised by a module of the fake: the server answers with an error frame.

    Args:
        message: The frame's ``message``.
        **fields: Its other fields, such as ``code``.
    """

    def __init__(self, message: str, **fields: Any) -> None:
        super().__init__(message)
        self.fields = fields


@attrs.frozen(kw_only=True)
class ProceduraRequest:
    """
    A request that the fake got.

    Attributes:
        frame: The whole frame.
        token: The token of the connection, from its header, or None.
        connection: The number of the connection, from 1.
    """

    frame: Mapping[str, Any]
    token: str | None
    connection: int

    @property
    def module(self) -> str:
        """The module's name."""
        return str(self.frame.get("cmd"))

    @property
    def args(self) -> list[str]:
        """The module's arguments."""
        return list(self.frame.get("args") or ())


@attrs.define
class _Fault:
    kind: ProceduraFault
    module: str | None
    code: int
    count: int


class FakeProceduraServer:
    """
    A server that listens from the moment it is made until :meth:`close`.

    It has the modules ``login_password``, ``worldstate_snapshot`` and ``__keepalive``; more come
    with :meth:`module` and :meth:`script`.

    Args:
        accounts: Passwords by account, for ``login_password``.
        token_check: What happens to a connection without a valid token: nothing, an error frame
            for each request but a login, HTTP 401, or a Close frame with 4401.
        tokens: Tokens that are valid from the beginning; logins add theirs.
        addressing: How frames name their call.
        gap: Seconds between the frames of one call.
        echo_subprotocol: Whether the token's subprotocol is confirmed.
        max_size: Larger requests end the connection, in bytes.

    Attributes:
        accounts: As given; a change counts at once. So do ``addressing``, ``gap``,
            ``token_check`` and ``tokens``.
        requests: What came, in order.
        upgrades: The headers of the upgrades, in order.
    """

    def __init__(
        self,
        *,
        accounts: Mapping[str, str] | None = None,
        token_check: TokenCheck = "off",
        tokens: Sequence[str] = (),
        addressing: Addressing = "id",
        gap: float = 0.0,
        echo_subprotocol: bool = True,
        max_size: int = 8 * 1024 * 1024,
    ) -> None:
        self.addressing: Addressing = addressing
        self.gap = gap
        self.token_check: TokenCheck = token_check
        self.tokens = set(tokens)
        self.requests: list[ProceduraRequest] = []
        self.upgrades: list[Mapping[str, str]] = []
        self.accounts = dict(accounts or {"user@example.com": "pass"})
        self._echo_subprotocol = echo_subprotocol
        self._max_size = max_size
        self._lock = threading.Lock()
        self._raised = RaisedErrors()
        self._faults: list[_Fault] = []
        # With the number of each and its thread.
        self._connections: dict[ServerConnection, tuple[int, threading.Thread]] = {}
        self._modules: dict[str, Module] = {
            "login_password": self._log_in,
            "worldstate_snapshot": _snapshot,
            "__keepalive": lambda _: {"status": "ok"},
        }
        self._scripts: dict[str, Sequence[Mapping[str, Any]]] = {}
        self._pid = os.getpid()
        self._server: Server | None = None
        self.port = 0
        self.start()
        _running.add(self)

    def __enter__(self) -> FakeProceduraServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The address for :class:`~buttdial_sync.procedura.RemoteAgent`."""
        return f"ws://{_HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return len(self.upgrades)

    def module(self, name: str, function: Module) -> None:
        """
        Give the server a module.

        Args:
            name: Its name.
            function: Gets the arguments, and returns the result. A generator function yields the
                fields of ``running`` frames first. It fails with :class:`ModuleFailure`. Anything
                else that it raises is an error frame, too, and :meth:`close` raises it.
        """
        self._modules[name] = function

    def script(self, name: str, frames: Sequence[Mapping[str, Any]]) -> None:
        """Give the server a module that sends these frames, addressed, and nothing else."""
        self._scripts[name] = [dict(frame) for frame in frames]

    def fault(
        self, kind: ProceduraFault, *, module: str | None = None, code: int = 1011, count: int = 1
    ) -> None:
        """
        Let something go wrong.

        Args:
            kind: See :class:`~buttdial_sync.testing.procedura.ProceduraFault`.
            module: Only for this module; any when None.
            code: For ``"close"`` the close code, for ``"http"`` the status.
            count: How often.
        """
        if kind not in get_args(ProceduraFault):
            raise ValueError(f"there is no fault {kind!r}")
        with self._lock:
            self._faults.append(_Fault(kind, module, code, count))

    def push(self, frame: Any) -> None:
        """Send a frame to every connection, as it is."""
        for connection in list(self._connections):
            # One that still shakes hands would be closed by the library.
            if connection.protocol.state is State.OPEN:
                with suppress(ConnectionClosed):
                    connection.send(frame if isinstance(frame, str) else json.dumps(frame))

    def drop_connections(self) -> None:
        """Cut every connection, without a Close frame."""
        for connection in list(self._connections):
            _cut(connection)

    def start(self) -> None:
        """Listen, on the same port as before. Does nothing if it listens already."""
        if self._server is not None:
            return
        self._server = serve(
            self._serve,
            _HOST,
            self.port,
            process_request=self._upgrade,
            select_subprotocol=self._subprotocol,
            max_size=self._max_size,
            logger=_silent,
            close_timeout=1.0,
            ping_interval=None,
        )
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="fake-butt-dial-procedura", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop as a server that is shut down does: connections are cut."""
        server, self._server = self._server, None
        if server is None or self._pid != os.getpid():
            return
        # Also before: shutdown() may wait for a connection whose client reads nothing.
        self.drop_connections()
        server.shutdown()
        self._thread.join(_JOIN_SECONDS)
        threads = [thread for _, thread in list(self._connections.values())]
        self.drop_connections()
        for thread in threads:  # shutdown() of websockets 15 does not wait for them
            thread.join(_JOIN_SECONDS)

    def close(self) -> None:
        """
        Stop for good. Calling it again, or in a forked child, does nothing.

        Raises:
            Exception: The first that a module raised, if it was not a `ModuleFailure`.
        """
        self.stop()
        self._raised.raise_first()

    def _upgrade(self, connection: ServerConnection, request: Request) -> Response | None:
        headers = dict(request.headers.raw_items())
        fault = self._take_fault("http", None)
        token = _token_of(headers)
        with self._lock:
            self.upgrades.append(headers)
            number = len(self.upgrades)
        if fault is not None:
            return connection.respond(fault.code, "")
        if self.token_check == "http401" and token is not None and token not in self.tokens:
            return connection.respond(HTTPStatus.UNAUTHORIZED, "")
        # Before the answer: a client that is connected is a known one.
        self._connections[connection] = number, threading.current_thread()
        return None

    def _subprotocol(self, _: ServerConnection, offered: Sequence[Any]) -> Any:
        return offered[0] if offered and self._echo_subprotocol else None

    def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None  # noqa: S101 - it is set by the handshake
        token = _token_of(dict(connection.request.headers.raw_items()))
        number, _ = self._connections[connection]
        try:
            for text in connection:
                frame = json.loads(text)
                request = ProceduraRequest(frame=frame, token=token, connection=number)
                self.requests.append(request)
                # A daemon that nobody waits for: a module may never return.
                threading.Thread(
                    target=self._answer,
                    args=(connection, request),
                    name="fake-butt-dial-module",
                    daemon=True,
                ).start()
        except ConnectionClosed:
            pass  # the client has cut it
        finally:
            self._connections.pop(connection, None)

    def _answer(self, connection: ServerConnection, request: ProceduraRequest) -> None:
        try:
            if self._is_refused(request):
                if self.token_check == "close4401":
                    connection.close(4401, "auth failed: Invalid token")
                    return
                refusal = {"id": request.frame["id"], "status": "error", **_INVALID_TOKEN}
                connection.send(json.dumps(refusal))
                return
            self._run(connection, request)
        except (ConnectionClosed, OSError):
            pass  # the client has cut it
        except Exception as error:  # noqa: BLE001 - a result that is not JSON; close() raises it
            self._raised.keep(error)
            _cut(connection)

    def _is_refused(self, request: ProceduraRequest) -> bool:
        if self.token_check == "off" or request.module == "login_password":
            return False
        return request.token not in self.tokens

    def _run(self, connection: ServerConnection, request: ProceduraRequest) -> None:
        fault = self._take_fault(None, request.module)
        kind = fault.kind if fault is not None else None
        if kind == "no_ack":
            return
        if fault is not None and kind == "close" and fault.code == 4401:
            connection.close(4401, "auth failed: Invalid token")
            return
        frames = self._frames(request)
        first = next(frames)
        connection.send(json.dumps(first))
        if kind == "silence" or first["status"] == "error":
            return
        if fault is not None and kind is not None:
            _go_wrong(connection, fault, request)
            return
        for frame in frames:
            if self.gap:
                time.sleep(self.gap)
            connection.send(json.dumps(frame))

    def _frames(self, request: ProceduraRequest) -> Iterator[dict[str, Any]]:
        """Yield the frames of a run, each with its address."""
        script = self._scripts.get(request.module)
        module = self._modules.get(request.module)
        address = _Address(self.addressing, str(request.frame["id"]))
        if script is not None:
            for frame in script:
                yield address.of(frame)
        elif module is None:
            failure = {"status": "error", "message": "Module not found", "module": request.module}
            yield address.of(failure, is_first=True)
        else:
            is_sync = request.frame.get("mode") == "sync"
            yield address.of({"status": "ack" if is_sync else "started"}, is_first=True)
            yield from map(address.of, self._outcome(module, request.args))

    def _outcome(self, module: Module, args: list[str]) -> Iterator[dict[str, Any]]:
        try:
            result = module(args)
            while isinstance(result, Generator):
                try:
                    yield {"status": "running", **next(result)}
                except StopIteration as end:  # noqa: PERF203 - its value is the result
                    result = end.value
        except GeneratorExit:
            raise  # nobody wants the next frame
        except ModuleFailure as failure:
            yield {"status": "error", "message": str(failure), **failure.fields}
        except BaseException as error:  # noqa: BLE001 - closing the server raises it
            self._raised.keep(error)
            yield {"status": "error", "message": described(error)}
        else:
            yield {"status": "finished", "result": result}

    def _take_fault(self, kind: ProceduraFault | None, module: str | None) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                fits = fault.kind == kind if kind else fault.kind != "http"
                if fits and fault.module in {None, module}:
                    fault.count -= 1
                    if not fault.count:
                        self._faults.remove(fault)
                    return fault
        return None

    def _log_in(self, args: list[str]) -> dict[str, Any]:
        account, _, password = _credential_of(args[0]).partition(":")
        if self.accounts.get(account) != password:
            raise ModuleFailure("auth failed: Invalid password", cmd="login_password")
        options = dict(each[2:].split("=", 1) for each in args[1:] if "=" in each)
        token = f"sess_{uuid.uuid4().hex}"
        self.tokens.add(token)
        return {
            "status": "ok",
            "session_token": token,
            "account": account,
            "device": options.get("device"),
            "ttl": int(options.get("ttl", 3600)),
            "mode": "attach" if "--attach" in args else "replace",
        }

    def _leave_to_parent(self) -> None:
        """In a forked child: give up the copies of the sockets, without shutting the parent's."""
        server, self._server = self._server, None
        connections, self._connections = self._connections, {}
        for sock in (*(each.socket for each in connections), *([server.socket] if server else [])):
            with suppress(OSError):
                os.close(sock.detach())


class _Address:
    """Names a call in its frames."""

    def __init__(self, addressing: Addressing, request_id: str) -> None:
        self._addressing = addressing
        self._id = request_id
        self._job = f"job-{uuid.uuid4().hex[:8]}"

    def of(self, frame: Mapping[str, Any], *, is_first: bool = False) -> dict[str, Any]:
        how = self._addressing
        status = frame["status"]
        if how == "no_id" and status == "started":
            return {"job_id": self._job, **frame}
        if how == "id":
            job = {"job_id": self._job} if status == "started" else {}
            return {"id": self._id, **job, **frame}
        if is_first or status in {"ack", "started"} or how == "both":
            return {"id": self._id, "job_id": self._job, **frame}
        return {"id" if how == "id_is_job" else "job_id": self._job, **frame}


def _snapshot(args: list[str]) -> dict[str, Any]:
    full = {"meta": {"version": 3}, "entities": {"tree-1": {"kind": "tree"}}, "location": [0, 0, 0]}
    return {"meta": full["meta"], "terse": True} if "--terse" in args else full


def _credential_of(text: str) -> str:
    if ":" in text and not text.startswith("b64:"):
        return text
    return base64.b64decode(text.removeprefix("b64:")).decode()


def _token_of(headers: Mapping[str, str]) -> str | None:
    values = {name.lower(): value for name, value in headers.items()}
    found = values.get("authorization", "")
    return found.removeprefix("Bearer ") or None


def _go_wrong(connection: ServerConnection, fault: _Fault, request: ProceduraRequest) -> None:
    if fault.kind == "drop":
        _cut(connection)
    elif fault.kind == "close":
        connection.close(fault.code, "broken")
    elif fault.kind == "garbage":
        connection.send("this is not JSON")
    elif fault.kind == "not_an_object":
        connection.send("[1, 2, 3]")
    else:
        large = {"id": request.frame["id"], "status": "finished", "result": "x" * _LARGE}
        connection.send(json.dumps(large))


def _cut(connection: ServerConnection) -> None:
    with suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


def _after_fork_in_child() -> None:
    for server in tuple(_running):
        server._leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
