"""Machines and sessions over real sockets: lists, starting, stopping, naming."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import pytest
import requests

from buttdial_sync.errors import (
    AuthError,
    ConfigError,
    ConflictError,
    NotFoundError,
    OutcomeUnknownError,
    TransportError,
)
from buttdial_sync.happy import errors
from buttdial_sync.happy.client import HappyClient
from buttdial_sync.testing.happy_agents import FakeMachine
from buttdial_sync.testing.happy_server import FakeHappyServer
from buttdial_sync.testing.http_messages import BrokenConnection, Reply, Request, json_response
from tests.integration.happy.conftest import client_of

LONG_AGO = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)


def test_machines(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """Machines are decrypted, those with a key of their own and older ones alike."""
    happy_server.add_machine("new", host="laptop")
    happy_server.add_machine("old", is_older=True, host="desktop", is_offline=True)
    found = {machine.id: machine for machine in client.list_machines()}
    assert (found["new"].host, found["old"].host) == ("laptop", "desktop")
    assert found["new"].daemon_state == {"status": "running"}
    assert [machine.id for machine in client.list_machines(active_only=True)] == ["new"]
    assert client.get_machine("old").host == "desktop"
    with pytest.raises(errors.MachineNotFound) as caught:
        client.get_machine("nowhere")
    assert isinstance(caught.value, NotFoundError | errors.MachineOfflineError)


def test_a_machine_that_is_switched_off(
    happy_server: FakeHappyServer, client: HappyClient, machine: FakeMachine
) -> None:
    """The server says so at once, and that it is back."""
    for is_offline in (False, True, False):
        machine.is_offline = is_offline
        assert [each.active for each in client.list_machines()] == [not is_offline]


@pytest.mark.parametrize("message", [{"content": "x"}, {"localId": "1"}, {"localId": 1}, "x"])
def test_a_message_that_lacks_a_part(happy_server: FakeHappyServer, message: object) -> None:
    """The server refuses it, and lives."""
    session = happy_server.add_session().session
    url = f"{happy_server.server_url}/v3/sessions/{session.id}/messages"
    headers = {"Authorization": f"Bearer {happy_server.token}"}
    answer = requests.post(url, json={"messages": [message]}, headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, "Bad Request")
    assert session.messages == []


def test_a_thousand_sessions(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """All are seen, in order, none twice; the published SDK sees 150."""
    made = [happy_server.add_session().session.id for _ in range(1_000)]
    assert [session.id for session in client.list_sessions()] == made[::-1]
    assert len(client.list_sessions(active_only=True)) == 1_000
    assert client.get_session(made[0]).directory == "/repo"
    assert client.is_alive(made[0])


def test_sessions_come_page_by_page(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """Who asks for one session of many does not pay for all of them."""
    for _ in range(250):
        happy_server.add_session()
    next(client.iter_sessions())
    assert len(happy_server.requests) == 1


@pytest.mark.parametrize("is_older", [False, True])
def test_the_fields_of_a_session(
    happy_server: FakeHappyServer, client: HappyClient, is_older: bool
) -> None:
    """A session has what the published SDK's has, and more."""
    process = happy_server.add_session(
        directory="/srv", is_older=is_older, claudeSessionId="c-1", summary={"text": "Title"}
    )
    session = client.get_session(process.session.id)
    assert (session.directory, session.machine_id) == ("/srv", "machine-1")
    assert (session.claude_session_id, session.name, session.agent) == ("c-1", "Title", "claude")
    assert session.agent_state_data == session.agent_state
    assert session.active
    assert not session.is_archived
    assert session.created_at is not None
    assert session.created_at.utcoffset() == dt.timedelta(0)
    assert session.unreadable is None


def test_one_record_spoils_no_list(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """A session of another account's key is in the list, and says why it cannot be read."""
    good = happy_server.add_session().session
    with FakeHappyServer() as another:
        foreign = another.add_session().session
    damaged = happy_server.add_session().session
    damaged.metadata = damaged.metadata[:-8] + "AAAAAAA="
    happy_server.store.sessions[foreign.id + "-foreign"] = foreign
    foreign.id += "-foreign"
    found = {session.id: session for session in client.list_sessions()}
    assert len(found) == 3
    assert found[good.id].unreadable is None
    assert "secret" in str(found[foreign.id].unreadable)
    assert "damaged" in str(found[damaged.id].unreadable)
    assert found[damaged.id].metadata == {}
    with pytest.raises(errors.WrongKeyError) as caught:
        client.send_message(foreign.id, "hello")
    assert caught.value.session_id == foreign.id
    assert happy_server.store.sessions[foreign.id].messages == []


def test_a_machine_key(happy_server: FakeHappyServer, tmp_path: Path) -> None:
    """An access.key opens its own machine, and no session: that is said clearly."""
    key = os.urandom(32)
    happy_server.add_machine("mine", key=key)
    happy_server.add_machine("other")
    session_id = happy_server.add_session(happy_server._machines["mine"]).session.id
    machine_key = base64.b64encode(key).decode()
    content = {"token": happy_server.token, "encryption": {"machineKey": machine_key}}
    file = tmp_path / "access.key"
    file.write_text(json.dumps(content), "utf-8")
    with HappyClient(happy_server.server_url, file) as client:
        machines = {machine.id: machine for machine in client.list_machines()}
        assert machines["mine"].host == "laptop"
        assert "machineKey" in str(machines["other"].unreadable)
        assert [each.unreadable is None for each in client.list_sessions()] == [False]
        with pytest.raises(errors.WrongKeyError, match="machineKey"):
            client.get_messages(session_id)
        assert client.spawn_session("mine", "/repo") in happy_server.store.sessions
        client.stop_session(session_id, machine_id="mine")
    # Given as an argument, only the first record that it does not open can tell.
    with HappyClient(
        happy_server.server_url, token=happy_server.token, secret_b64=machine_key
    ) as client:
        assert client.get_machine("mine").host == "laptop"
        with pytest.raises(errors.WrongKeyError, match="or a machineKey"):
            client.send_message(session_id, "hello")


def test_spawn(happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient) -> None:
    """What is asked for reaches the daemon under its own names."""
    session_id = client.spawn_session(
        "machine-1",
        "/repo",
        "codex",
        name="Nightly",
        permission_mode="acceptEdits",
        environment_variables={"CI": "1"},
        options={"modelMode": "opus"},
    )
    assert machine.spawned == [
        {
            "type": "spawn-in-directory",
            "directory": "/repo",
            "approvedNewDirectoryCreation": False,
            "agent": "codex",
            "permissionMode": "acceptEdits",
            "environmentVariables": {"CI": "1"},
            "modelMode": "opus",
        }
    ]
    assert client.get_session(session_id).name == "Nightly"


def test_spawn_refused(machine: FakeMachine, client: HappyClient) -> None:
    """The daemon's own words arrive."""
    machine.spawn_error = "claude is not installed"
    with pytest.raises(errors.SpawnError, match="claude is not installed") as caught:
        client.spawn_session("machine-1", "/repo")
    assert caught.value.outcome == "rejected"


def test_spawn_needs_approval(machine: FakeMachine, client: HappyClient) -> None:
    """A directory that does not exist is told, with the argument that creates it."""
    machine.needs_approval = True
    with pytest.raises(errors.DirectoryNeedsApproval, match="/new") as caught:
        client.spawn_session("machine-1", "/new")
    assert "create_dir=True" in str(caught.value.remediation)
    assert client.spawn_session("machine-1", "/new", create_dir=True)


def test_machine_offline(machine: FakeMachine, client: HappyClient) -> None:
    """A daemon that is not connected is told by name: nothing was carried out."""
    machine.is_offline = True
    with pytest.raises(errors.MachineOfflineError) as caught:
        client.spawn_session("machine-1", "/repo")
    assert caught.value.outcome == "not_sent"
    with pytest.raises(errors.MachineOfflineError):
        client.spawn_session("nowhere", "/repo")


def test_a_slow_spawn(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """Its outcome is unknown, it is not repeated, and what came of it can be found."""
    machine.is_slow = True
    happy_server.add_session(machine, directory="/other")
    with pytest.raises(errors.SpawnOutcomeUnknownError, match="timed out") as caught:
        client.spawn_session("machine-1", "/repo")
    assert isinstance(caught.value, OutcomeUnknownError | errors.RpcTransportError)
    assert caught.value.outcome == "unknown"
    assert len(machine.spawned) == 1
    found = client.find_spawned("machine-1", "/repo", since=LONG_AGO)
    assert [session.directory for session in found] == ["/repo"]
    assert len(client.find_spawned("machine-1", since=LONG_AGO)) == 2
    tomorrow = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
    assert client.find_spawned("machine-1", since=tomorrow) == []


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": True, "result": None},
        {"ok": True, "result": ""},
        {"ok": True, "result": []},
        {"ok": True, "result": {"type": "success"}},
        {"ok": False, "error": "Internal error"},
        {"ok": False},
    ],
)
def test_an_answer_that_does_not_say_whether_it_was_started(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient, answer: dict[str, Any]
) -> None:
    """Only the daemon's own no is a refusal: whoever repeats after one has two agents."""
    if answer.get("result"):
        answer = {**answer, "result": machine.cipher.seal(answer["result"])}

    def starts(sid: str, data: dict[str, Any]) -> dict[str, Any]:
        happy_server._on_rpc_call(sid, data)
        return answer

    happy_server._io.on("rpc-call", starts)
    with pytest.raises(errors.SpawnOutcomeUnknownError) as caught:
        client.spawn_session("machine-1", "/repo")
    assert caught.value.outcome == "unknown"
    assert "find_spawned" in str(caught.value.remediation)
    assert len(client.find_spawned("machine-1", "/repo", since=LONG_AGO)) == 1


def test_a_daemon_that_refuses_without_words(
    happy_server: FakeHappyServer, machine: FakeMachine, client: HappyClient
) -> None:
    """It is a refusal all the same."""
    sealed = machine.cipher.seal({"type": "error"})
    happy_server._io.on("rpc-call", lambda sid, data: {"ok": True, "result": sealed})
    with pytest.raises(errors.SpawnError) as caught:
        client.spawn_session("machine-1", "/repo")
    assert caught.value.outcome == "rejected"


def test_a_server_that_does_not_answer_a_call(
    machine: FakeMachine, happy_server: FakeHappyServer
) -> None:
    """The call's own time ends the wait, with an unknown outcome."""
    machine.is_silent = True
    with client_of(happy_server) as client:
        client.list_machines()
        client.check_live_connection()
        with pytest.raises(errors.SpawnOutcomeUnknownError, match="no answer"):
            client.spawn_session("machine-1", "/repo", timeout=1.0)


def test_stopping(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """A session is stopped on its machine, which the metadata name."""
    process = happy_server.add_session()
    client.stop_session(process.session.id)
    assert process.ended
    assert not client.is_alive(process.session.id)
    with pytest.raises(errors.StopSessionError, match="names no machine"):
        client.stop_session(happy_server.add_session(machineId=None).session.id)
    with pytest.raises(errors.StopSessionError, match="failed to stop") as caught:
        client.stop_session(process.session.id + "x", machine_id="machine-1")
    assert caught.value.session_id == process.session.id + "x"


def test_killing(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """A session's own process ends itself; one that has ended is offline."""
    process = happy_server.add_session()
    client.kill_session(process.session.id)
    assert process.ended
    with pytest.raises(errors.SessionOfflineError):
        client.kill_session(process.session.id)


def test_archiving_and_deleting(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """Both are REST; a session that is gone is told by name."""
    session_id = happy_server.add_session().session.id
    client.archive_session(session_id)
    assert client.get_session(session_id).is_archived
    client.delete_session(session_id)
    for call in (
        client.get_session,
        client.delete_session,
        client.archive_session,
        client.get_messages,
        lambda session_id: client.send_message(session_id, "hello"),
        lambda session_id: client.set_session_name(session_id, "name"),
    ):
        with pytest.raises(errors.SessionNotFound) as caught:
            call(session_id)
        assert caught.value.session_id == session_id
    assert not client.is_alive(session_id)


def test_metadata(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """Changes are merged; what others changed meanwhile is kept."""
    session_id = happy_server.add_session().session.id
    session = client.set_session_name(session_id, "Nightly build")
    assert (session.name, session.metadata_version) == ("Nightly build", 2)
    changed = client.update_session_metadata(session_id, {"note": 1})
    assert (changed.name, changed.metadata["note"]) == ("Nightly build", 1)
    assert client.get_session(session_id).metadata == changed.metadata


def test_metadata_conflicts(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """A lost race is run again; one that is always lost is told, and nothing is overwritten."""
    process = happy_server.add_session()
    session = process.session
    rivals = [3]

    def interfere(request: Request) -> Reply | None:
        if request.path == "/v2/sessions/active" and rivals[0]:
            rivals[0] -= 1
            reply = happy_server._rest.answer(request)
            sealed = session.cipher.seal({"rival": rivals[0], "machineId": "machine-1"})
            happy_server.store.set_metadata(session, sealed, session.metadata_version)
            return reply
        return None

    happy_server.faults.append(interfere)
    changed = client.update_session_metadata(session.id, {"mine": True})
    assert changed.metadata == {"rival": 0, "machineId": "machine-1", "mine": True}
    rivals[0] = 100
    with pytest.raises(errors.MetadataConflictError) as caught:
        client.update_session_metadata(session.id, {"mine": False})
    assert isinstance(caught.value, ConflictError)
    assert "mine" not in session.cipher.open(session.metadata)


@pytest.mark.parametrize(("is_lost", "outcome"), [(True, "unknown"), (False, "rejected")])
def test_conflicts_after_a_change_whose_answer_was_lost(
    happy_server: FakeHappyServer, client: HappyClient, is_lost: bool, outcome: str
) -> None:
    """Then it may have been made, and nobody says that it was not."""
    process = happy_server.add_session()
    offers: list[str] = []

    def loses_the_first(sid: str, data: dict[str, Any]) -> Any:
        offers.append(data["metadata"])
        if is_lost and len(offers) == 1:
            happy_server._on_update_metadata(sid, data)
            happy_server.cut_sockets()
            return happy_server._io.not_handled
        return {"result": "version-mismatch", "version": 99, "metadata": data["metadata"]}

    happy_server._io.on("update-metadata", loses_the_first)
    with pytest.raises(errors.MetadataConflictError) as caught:
        client.set_session_name(process.session.id, "mine")
    assert caught.value.outcome == outcome
    is_set = process.session.cipher.open(process.session.metadata).get("name") == "mine"
    assert is_set is is_lost


def test_metadata_that_are_missing(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """They are an error of ours, too."""
    session_id = happy_server.add_session().session.id
    client.get_messages(session_id)  # its key is known now
    record = {"sessions": [{"id": session_id}]}
    happy_server.faults.append(
        lambda request: json_response(200, record) if "/v2/" in request.path else None
    )
    with pytest.raises(errors.EncryptionError):
        client.set_session_name(session_id, "name")


def test_metadata_that_cannot_be_read_are_not_overwritten(
    happy_server: FakeHappyServer, client: HappyClient
) -> None:
    """The published SDK would replace them by the changes alone."""
    session = happy_server.add_session().session
    session.metadata = damaged = session.metadata[:-8] + "AAAAAAA="
    with pytest.raises(errors.EncryptionError):
        client.set_session_name(session.id, "name")
    assert session.metadata == damaged


def test_metadata_of_another_kind_are_not_overwritten(
    happy_server: FakeHappyServer, client: HappyClient
) -> None:
    """Only an object can be changed in parts."""
    session = happy_server.add_session().session
    session.metadata = sealed = session.cipher.seal(["a", "list"])
    with pytest.raises(errors.MetadataUpdateError, match="not an object"):
        client.set_session_name(session.id, "name")
    assert session.metadata == sealed


def test_a_deletion_whose_answer_is_lost(happy_server: FakeHappyServer) -> None:
    """Nobody knows whether it was carried out, and that is said."""
    session_id = happy_server.add_session().session.id
    happy_server.faults.append(lambda _: BrokenConnection("reset"))
    with client_of(happy_server, sleep=lambda _: None) as client:
        with pytest.raises(errors.HappyOutcomeUnknownError) as caught:
            client.delete_session(session_id)
        assert isinstance(caught.value, OutcomeUnknownError)
        assert (caught.value.outcome, caught.value.session_id) == ("unknown", session_id)


@pytest.mark.parametrize("token", ["another", "x" * 5000])
def test_a_refused_token(happy_server: FakeHappyServer, token: str) -> None:
    """REST and live connection alike say that it is the token."""
    happy_server.add_machine()
    with HappyClient(
        happy_server.server_url, token=token, secret_b64=happy_server.secret_b64
    ) as client:
        with pytest.raises(errors.AuthenticationError) as caught:
            client.list_sessions()
        assert isinstance(caught.value, AuthError)
        assert len(happy_server.requests) == 1
        with pytest.raises(errors.AuthenticationError, match="live connection"):
            client.check_live_connection()


def test_nobody_listens() -> None:
    """A server that is not there is a connection error of ours, after all attempts."""
    with FakeHappyServer() as server:
        url = server.server_url
    with HappyClient(
        url,
        token="t",
        secret_b64=base64.b64encode(bytes(32)).decode(),
        sleep=lambda _: None,
    ) as client:
        with pytest.raises(errors.ConnectionError) as caught:
            client.list_sessions()
        assert isinstance(caught.value, TransportError)
        assert caught.value.outcome == "not_sent"
        with pytest.raises(errors.ConnectionError):
            client.check_live_connection()


@pytest.mark.parametrize(
    "arguments",
    [
        {"server_url": ""},
        {"server_url": "ftp://h"},
        {"server_url": "https://user:s3cret@h"},
        {"server_url": "https://h?token=s3cret"},
        {"timeout": 0},
        {"timeout": "x"},
        {"max_attempts": 0},
        {"poll_interval": -1},
    ],
)
def test_wrong_arguments(happy_server: FakeHappyServer, arguments: dict[str, object]) -> None:
    """They are told before anything is sent, without what they hold."""
    given = {"server_url": happy_server.server_url, **arguments}
    with pytest.raises(ConfigError) as caught:
        HappyClient(token="t", secret_b64=happy_server.secret_b64, **given)  # type: ignore[arg-type]
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("hosts", [(), ("another.example",)])
def test_a_token_in_the_clear(happy_server: FakeHappyServer, hosts: tuple[str, ...]) -> None:
    """It goes over http:// to this machine only, and to hosts that are named."""
    options: Any = {"token": "t", "secret_b64": happy_server.secret_b64}
    with pytest.raises(errors.HappyConfigError, match="unencrypted") as caught:
        HappyClient("http://happy.example", insecure_hosts=hosts, **options)
    assert "insecure_hosts" in str(caught.value.remediation)
    for url in ("http://HAPPY.example:3005/x", "https://happy.example", "http://localhost:1"):
        with HappyClient(url, insecure_hosts=["happy.example"], **options) as client:
            assert client.server_url == url


def test_an_unexpected_answer(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """Another server behind the address is an error of ours."""
    happy_server.faults.append(lambda request: json_response(200, {"hello": "world"}))
    for call in (client.list_sessions, client.list_machines):
        with pytest.raises(errors.HappyProtocolError, match="unexpected shape"):
            call()


def test_a_bare_list_instead_of_an_object(
    happy_server: FakeHappyServer, client: HappyClient
) -> None:
    """It is an unexpected shape as any other."""
    happy_server.faults.append(lambda request: json_response(200, []))
    for call in (client.list_sessions, lambda: client.get_messages("session-1")):
        with pytest.raises(errors.HappyProtocolError, match="unexpected shape"):
            call()


def test_cursors_that_go_round(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """Each page is read once; there is no end otherwise."""
    pages = iter(range(100))

    def goes_round(request: Request) -> Reply:
        cursor = f"c{next(pages) % 2}"
        return json_response(200, {"sessions": [], "hasNext": True, "nextCursor": cursor})

    happy_server.faults.append(goes_round)
    assert client.list_sessions() == []
    assert [request.query.get("cursor") for request in happy_server.requests] == [None, "c0", "c1"]


def test_a_moment_without_a_time_zone(happy_server: FakeHappyServer, client: HappyClient) -> None:
    """Nothing can be compared with it, and that is said before anything is asked."""
    with pytest.raises(ConfigError, match="time zone"):
        client.find_spawned("machine-1", since=LONG_AGO.replace(tzinfo=None))
    assert happy_server.requests == []


def test_from_env(
    happy_server: FakeHappyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The environment makes a client: with both variables, or with the key file."""
    happy_server.add_machine()
    monkeypatch.setenv("HAPPY_SERVER_URL", happy_server.server_url)
    with pytest.raises(errors.CredentialsError):
        HappyClient.from_env()
    content = {"token": happy_server.token, "secret": happy_server.secret_b64}
    (tmp_path / "agent.key").write_text(json.dumps(content), "utf-8")
    for client in (HappyClient.from_env(), HappyClient()):
        with client:
            assert client.get_machine("machine-1").host == "laptop"
    monkeypatch.setenv("HAPPY_TOKEN", "another")
    monkeypatch.setenv("HAPPY_SECRET", happy_server.secret_b64)
    with HappyClient.from_env(timeout=5.0) as client, pytest.raises(errors.AuthenticationError):
        client.list_machines()


def test_closed(happy_server: FakeHappyServer, machine: FakeMachine) -> None:
    """A closed client says so, whatever is asked; closing twice is fine."""
    with client_of(happy_server) as client:
        session_id = client.spawn_session("machine-1", "/repo")
    client.close()
    for call in (
        client.list_sessions,
        lambda: client.send_message(session_id, "hello"),
        lambda: client.spawn_session("machine-1", "/repo"),
        lambda: next(client.follow(session_id)),
    ):
        with pytest.raises(errors.HappyClosedError):
            call()
