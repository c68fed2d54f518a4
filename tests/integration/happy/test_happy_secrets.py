"""No token, no secret and no key in anything that is logged, raised, pickled or printed."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from buttdial_sync.errors import ButtDialError
from buttdial_sync.happy import errors
from buttdial_sync.happy.client import HappyClient
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.testing.happy_agents import FakeMachine
from buttdial_sync.testing.happy_server import FakeHappyServer
from buttdial_sync.testing.http_messages import BrokenConnection, json_response
from tests.integration.happy.conftest import client_of

TOKEN = "happy-token-that-nobody-may-see"


@pytest.fixture
def server() -> FakeHappyServer:
    return FakeHappyServer(token=TOKEN)


def forms_of(server: FakeHappyServer) -> list[str]:
    """The secrets in the forms in which they could be seen."""
    secret = base64.b64decode(server.secret_b64)
    return [TOKEN, server.secret_b64, secret.hex(), repr(secret)[2:-1], repr(list(secret))[1:-1]]


def frames_of(trace: TracebackType | None) -> str:
    """The local variables of the library's frames, as Sentry and Django print them."""
    found: list[str] = []
    for frame, _ in traceback.walk_tb(trace):
        if "buttdial_sync" in frame.f_code.co_filename or "site-packages" in (
            frame.f_code.co_filename
        ):
            found.extend(f"{name}={value!r}" for name, value in frame.f_locals.items())
    return "\n".join(found)


def everything_about(error: BaseException) -> str:
    """What can be seen of an exception, its causes and frames included."""
    seen = []
    current: BaseException | None = error
    while current is not None:
        seen += [repr(current), str(current), repr(vars(current)), frames_of(current.__traceback__)]
        current = current.__cause__ or current.__context__
    if isinstance(error, errors.HappyError):
        seen.append(repr(pickle.dumps(error)))
    return "\n".join(seen)


@pytest.mark.parametrize("is_from_process", [False, True])
@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"HAPPY_SERVER_URL": "ftp://x"}, {}),
        ({}, {"timeout": 0}),
        ({"HAPPY_TOKEN": ""}, {}),
        ({"HAPPY_SECRET": "{secret}!"}, {}),
        ({"HAPPY_TOKEN": "", "HAPPY_SECRET": ""}, {"token": TOKEN, "secret_b64": "{secret}!"}),
    ],
)
def test_a_constructor_that_raises_shows_nothing_of_the_environment(
    server: FakeHappyServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    changes: dict[str, str],
    options: dict[str, Any],
    is_from_process: bool,
) -> None:
    """Neither the client's own variables nor the host's others stand in a frame."""
    server.close()  # only its secrets are needed
    (tmp_path / "agent.key").write_text(json.dumps({"token": TOKEN, "secret": "x"}), "utf-8")
    environ = {
        "HAPPY_SERVER_URL": "https://happy.example",
        "HAPPY_HOME_DIR": str(tmp_path),
        "HAPPY_TOKEN": TOKEN,
        "HAPPY_SECRET": server.secret_b64,
        "DATABASE_URL": "postgres://host:geheim@db",
        **{name: text.format(secret=server.secret_b64) for name, text in changes.items()},
    }
    if "secret_b64" in options:
        options = {**options, "secret_b64": f"{server.secret_b64}!"}
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ButtDialError) as caught:
        HappyClient.from_env(environ=None if is_from_process else environ, **options)
    seen = everything_about(caught.value)
    assert "from_env" in "".join(traceback.format_tb(caught.value.__traceback__))
    for form in [*forms_of(server), "geheim"]:
        assert form not in seen


def test_nothing_is_shown(
    server: FakeHappyServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Everything that goes well and wrong, with every log of the process switched on."""
    caplog.set_level(logging.DEBUG)
    for name in ("socketio", "engineio", "websocket", "socketio.client", "engineio.client"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    seen: list[str] = []
    events: list[ClientEvent] = []
    key_file = tmp_path / "agent.key"
    key_file.write_text(json.dumps({"token": TOKEN, "secret": server.secret_b64}), "utf-8")

    def failing(call: object, *arguments: object) -> None:
        with pytest.raises(errors.HappyError) as caught:
            call(*arguments)  # type: ignore[operator]
        seen.append(everything_about(caught.value))

    with server:
        machine: FakeMachine = server.add_machine()
        session_id = server.add_session(machine).session.id
        with (
            client_of(server, on_event=events.append, sleep=lambda _: None) as client,
            HappyClient(server.server_url, key_file) as another,
        ):
            seen += [repr(client), repr(vars(client)), repr(another)]
            seen.append(repr(client.run_task("machine-1", "/repo", "hello")))
            seen.append(repr(client.list_sessions()) + repr(client.list_machines()))
            seen.append(repr(another.get_messages(session_id)))
            with pytest.raises(TypeError, match="make one in each process"):
                pickle.dumps(another)
            machine.spawn_error = "no"
            failing(client.spawn_session, "machine-1", "/repo")
            machine.is_offline = True
            failing(client.spawn_session, "machine-1", "/repo")
            failing(client.send_message, "nowhere", "hello")
            for fault in (
                BrokenConnection("reset"),
                json_response(401, {"error": f"Invalid token {TOKEN}"}),
                json_response(500, {"error": f"Bearer {TOKEN}"}),
                json_response(200, {"hello": "world"}),
            ):
                server.faults[:] = [lambda _, fault=fault: fault]  # type: ignore[misc]
                failing(client.list_sessions)
                failing(client.send_message, session_id, "hello")
            server.faults.clear()
            server.refuses_sockets = True
            client.close()
            failing(client.list_machines)
        with HappyClient(
            server.server_url, token=TOKEN, secret_b64=base64.b64encode(bytes(32)).decode()
        ) as wrong:
            failing(wrong.send_message, session_id, "hello")
            failing(wrong.spawn_session, "machine-1", "/repo")
    failing(lambda: HappyClient("ftp://x", token=TOKEN, secret_b64=server.secret_b64))
    key_file.write_text(json.dumps({"token": TOKEN, "secret": server.secret_b64 + "!"}), "utf-8")
    failing(lambda: HappyClient(server.server_url, key_file))
    text = "\n".join([*seen, repr(events), caplog.text])
    assert len(text) > 10_000
    for form in forms_of(server):
        assert form not in text, text[max(0, text.index(form) - 300) :][:600]
