"""A Happy server for tests: REST and Socket.IO on one port, with real encryption."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import os
import socket as sockets
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import attrs

from buttdial_sync._extras import Extra
from buttdial_sync.happy.crypto import Cipher
from buttdial_sync.testing.happy_agents import AgentFunction, AgentProcess, FakeMachine, says_done
from buttdial_sync.testing.happy_rest import HappyRest
from buttdial_sync.testing.happy_store import HappyStore, StoredMessage, StoredSession
from buttdial_sync.testing.http_messages import (
    BrokenConnection,
    RawResponse,
    Reply,
    Request,
    json_response,
)
from buttdial_sync.testing.loopback import SocketServer
from buttdial_sync.testing.raised import RaisedErrors

with Extra("happy-testing", "socketio"):
    import socketio

TOKEN = "happy-token"
_PATH = "/v1/updates"
_KEEP_ALIVE = 60.0
_USERS = "users"
_silent = logging.Logger("buttdial_sync.testing.happy")
_silent.disabled = True

Fault = Callable[[Request], "Reply | None"]


class FakeHappyServer:
    """
    A Happy server on a port of 127.0.0.1, with machines whose agents are plain functions.

    It keeps only what a real server would see: everything is sealed with the account's keys. The
    caps of the real one hold: 150 sessions and messages over ``/v1``. Use it as a context manager,
    or the fixture ``happy_server``.

    Args:
        token: The token that it accepts.
        secret: The account secret, 32 bytes; random when None.
        base_path: What stands before every path, as in ``"/happy"``.

    Attributes:
        token: The token that it accepts.
        requests: The REST requests that came.
        connections: How many connections were accepted, live ones included.
        events: The names of the Socket.IO events that came.
        faults: Called with each REST request; what one returns instead of None is the reply.
        refuses_sockets: Whether live connections are cut at once.
    """

    def __init__(
        self, *, token: str = TOKEN, secret: bytes | None = None, base_path: str = ""
    ) -> None:
        self.token = token
        self._base_path = base_path
        self.requests: list[Request] = []
        self.connections = 0
        self.events: list[str] = []
        self.faults: list[Fault] = []
        self.refuses_sockets = False
        self.raised = RaisedErrors()
        self._secret = secret or os.urandom(32)
        self.store = HappyStore(self._secret, self._push)
        self._rest = HappyRest(self.store, token, self._stored, self._archived)
        self._machines: dict[str, FakeMachine] = {}
        self._processes: dict[str, AgentProcess] = {}
        self._live: set[sockets.socket] = set()
        self._numbers = iter(range(1, 2**31))
        self._io = socketio.Server(
            async_mode="threading",
            logger=_silent,
            engineio_logger=_silent,
            cors_allowed_origins="*",
            ping_interval=15,
            ping_timeout=45,
        )
        for name in ("connect", "message", "rpc-call", "update-metadata"):
            self._io.on(name, getattr(self, f"_on_{name.replace('-', '_')}"))
        self._listener = SocketServer(0, self, _KEEP_ALIVE)
        self._listener.start()
        self._closed = False

    def __enter__(self) -> FakeHappyServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def server_url(self) -> str:
        """The URL that a client has to be given."""
        return f"http://127.0.0.1:{self._listener.server_port}{self._base_path}"

    @property
    def secret_b64(self) -> str:
        """The account secret, as a client has to be given it."""
        return base64.b64encode(self._secret).decode("ascii")

    def add_machine(
        self,
        machine_id: str = "machine-1",
        agent: AgentFunction = says_done,
        *,
        key: bytes | None = None,
        is_older: bool = False,
        host: str = "laptop",
        **options: Any,
    ) -> FakeMachine:
        """
        Add a machine.

        Args:
            machine_id: Its id.
            agent: What its agents do with a prompt.
            key: The key of its record, 32 bytes; random when None.
            is_older: Its record is sealed with the account secret, as older daemons do.
            host: Its name.
            **options: Attributes of :class:`~buttdial_sync.testing.happy_agents.FakeMachine`.
        """
        cipher, boxed = self.store.new_key(None if is_older else key or os.urandom(32))
        now = self.store.now()
        self.store.machines[machine_id] = {
            "id": machine_id,
            "seq": 1,
            "createdAt": now,
            "updatedAt": now,
            "active": not options.get("is_offline", False),
            "activeAt": now,
            "metadata": cipher.seal({"host": host, "platform": "linux", "homeDir": "/home/user"}),
            "metadataVersion": 1,
            "daemonState": cipher.seal({"status": "running"}),
            "daemonStateVersion": 1,
            "dataEncryptionKey": boxed,
        }
        record = self.store.machines[machine_id]
        machine = FakeMachine(id=machine_id, cipher=cipher, agent=agent, record=record, **options)
        self._machines[machine_id] = machine
        return machine

    def add_session(
        self,
        machine: FakeMachine | None = None,
        *,
        directory: str = "/repo",
        is_older: bool = False,
        **metadata: Any,
    ) -> AgentProcess:
        """
        Start a session, and return its process.

        Args:
            machine: Where it runs; ``"machine-1"``, made if need be, when None.
            directory: Where the agent works.
            is_older: It is sealed with the account secret, as older sessions are.
            **metadata: More metadata.
        """
        machine = machine or self._machines.get("machine-1") or self.add_machine()
        session = self.store.add_session(
            {
                "machineId": machine.id,
                "path": directory,
                "flavor": machine.flavor,
                "lifecycleState": "running",
                **metadata,
            },
            {"controlledByUser": False, "requests": {}, "completedRequests": {}},
            None if is_older else os.urandom(32),
        )
        process = AgentProcess(self.store, session, machine, self.raised)
        self._processes[session.id] = process
        return process

    def process(self, session_id: str) -> AgentProcess:
        """Return the process of a session."""
        return self._processes[session_id]

    def prompts(self, session_id: str) -> list[str]:
        """Return what was sent to an agent, decrypted."""
        session = self.store.sessions[session_id]
        opened = (session.cipher.open(each.sealed) for each in list(session.messages))
        return [each["content"]["text"] for each in opened if each.get("role") == "user"]

    def cut_sockets(self) -> None:
        """Cut every live connection, as a network does."""
        for live in list(self._live):
            with contextlib.suppress(OSError):
                live.shutdown(sockets.SHUT_RDWR)

    @property
    def live_sockets(self) -> int:
        """How many live connections there are."""
        return len(self._live)

    def close(self) -> None:
        """
        End the agents and the connections. Calling it again does nothing.

        Raises:
            Exception: The first that an agent function raised, if it was not an `AgentFailure`.
        """
        if self._closed:
            return
        self._closed = True
        processes = list(self._processes.values())
        for process in processes:
            process.leave()
        for process in processes:
            process.join()
        self._listener.stop()
        self.cut_sockets()
        self._listener.drop_connections()
        self._io.shutdown()
        self.raised.raise_first()

    # The socket face calls these

    def count_connection(self) -> None:
        """Note that a connection was accepted."""
        self.connections += 1

    def handle(self, request: Request) -> Reply:
        """Answer a request."""
        if not request.path.startswith(self._base_path):
            return json_response(404, {"error": "Not Found"})
        request = attrs.evolve(request, path=request.path.removeprefix(self._base_path))
        if request.path.startswith(_PATH):
            if self.refuses_sockets:
                return BrokenConnection("reset")
            return RawResponse(lambda sock: self._serve_socket(request, sock))
        self.requests.append(request)
        for fault in list(self.faults):
            reply = fault(request)
            if reply is not None:
                return reply
        return self._rest.answer(request)

    def _serve_socket(self, request: Request, sock: sockets.socket) -> None:
        """Hand a connection over to Socket.IO, which keeps it until it ends."""
        environ = {
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": urlencode(request.query),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "werkzeug.socket": sock,
        }
        for name, value in request.headers.items():
            environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
        self._live.add(sock)
        try:
            # The library ends the thread of a connection that is over with this error.
            with contextlib.suppress(ConnectionError):
                self._io.handle_request(environ, lambda *_: None)
        finally:
            self._live.discard(sock)

    # Socket.IO

    def _push(self, event: str, body: Mapping[str, Any], skip: str | None) -> None:
        frame = {
            "id": f"update-{next(self._numbers)}",
            "seq": self.store.now(),
            "createdAt": self.store.now(),
            "body": body,
        }
        session_id = body.get("sid") or body.get("id")
        self._io.emit(event, frame, room=_USERS, skip_sid=skip)
        if body["t"] != "delete-session":
            self._io.emit(event, frame, room=session_id, skip_sid=skip)

    def push_activity(self, session_id: str, *, thinking: bool = False) -> None:
        """Tell the live connections whether a session is connected, and its agent works."""
        active = self.store.sessions[session_id].active
        frame = {"type": "activity", "id": session_id, "active": active, "thinking": thinking}
        self._io.emit("ephemeral", frame, room=_USERS)

    def _on_connect(self, sid: str, environ: Any, auth: Any) -> None:
        self.events.append("connect")
        given = auth if isinstance(auth, dict) else {}
        if given.get("token") != self.token:
            raise socketio.exceptions.ConnectionRefusedError("Invalid authentication token")
        self._io.enter_room(sid, given.get("sessionId") or _USERS)

    def _on_message(self, sid: str, data: Mapping[str, Any]) -> None:
        self.events.append("message")
        session = self.store.sessions.get(data["sid"])
        if session is None:
            return
        message, is_new = self.store.add_message(
            session, data["message"], data.get("localId"), skip=sid
        )
        if is_new:
            self._stored(session, message)

    def _on_update_metadata(self, sid: str, data: Mapping[str, Any]) -> Any:
        self.events.append("update-metadata")
        session = self.store.sessions.get(data["sid"])
        if session is None:
            return self._io.not_handled  # the real server does not answer either
        is_set = self.store.set_metadata(session, data["metadata"], data["expectedVersion"])
        return {
            "result": "success" if is_set else "version-mismatch",
            "version": session.metadata_version,
            "metadata": session.metadata,
        }

    def _on_rpc_call(self, sid: str, data: Mapping[str, Any]) -> Any:
        target, _, name = data["method"].rpartition(":")
        self.events.append(f"rpc-call {name}")
        machine, process = self._machines.get(target), self._processes.get(target)
        if machine is not None and machine.is_silent:
            return self._io.not_handled
        if machine is not None and not machine.is_offline:
            result = self._machine_call(machine, name, machine.cipher.open(data["params"]))
            if machine.is_slow:
                return {"ok": False, "error": "operation has timed out"}
            return _sealed(result, machine.cipher)
        if process is not None and not process.ended:
            cipher = process.session.cipher
            return _sealed(process.call(name, cipher.open(data["params"])), cipher)
        return {"ok": False, "error": "RPC method not available"}

    def _machine_call(self, machine: FakeMachine, name: str, params: Mapping[str, Any]) -> Any:
        if name == "spawn-happy-session":
            return self._spawn(machine, params)
        if name == "stop-session":
            process = self._processes.get(params["sessionId"])
            if process is None or process.machine is not machine:
                return {"error": "Session not found or failed to stop"}
            process.end()
            return {"message": "Session stopped"}
        return {"error": "Method not found"}

    def _spawn(self, machine: FakeMachine, params: Mapping[str, Any]) -> Any:
        if machine.spawn_error is not None:
            return {"error": machine.spawn_error}
        directory = params["directory"]
        if machine.needs_approval and not params["approvedNewDirectoryCreation"]:
            return {"type": "requestToApproveDirectoryCreation", "directory": directory}
        machine.spawned.append(params)
        process = self.add_session(machine, directory=directory)
        return {"type": "success", "sessionId": process.session.id}

    def _stored(self, session: StoredSession, message: StoredMessage) -> None:
        process = self._processes.get(session.id)
        if process is not None:
            process.take(message)

    def _archived(self, session: StoredSession) -> None:
        process = self._processes.get(session.id)
        if process is not None:
            process.end()


def _sealed(result: Any, cipher: Cipher) -> dict[str, Any]:
    return {"ok": True, "result": cipher.seal(result) if result is not None else ""}
