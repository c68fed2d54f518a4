"""The published SDK against the fake server, unchanged: the fake is like the real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from buttdial_sync.happy import errors
from buttdial_sync.happy.client import HappyClient
from buttdial_sync.testing.happy_agents import FakeMachine
from buttdial_sync.testing.happy_server import FakeHappyServer

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture
def published(happy_server: FakeHappyServer) -> Iterator[Any]:
    try:
        from happy_sdk import SyncHappyClient
    except ImportError:
        pytest.skip("needs happy-engineering-sdk==0.7.0, which needs Python 3.11")
    client = SyncHappyClient(
        server_url=happy_server.server_url,
        token=happy_server.token,
        secret_b64=happy_server.secret_b64,
    )
    yield client
    client.close()


def test_its_whole_surface(
    happy_server: FakeHappyServer, machine: FakeMachine, published: Any, client: HappyClient
) -> None:
    """What it does over the fake can be seen with our client, and the other way round."""
    assert [each.id for each in published.list_machines()] == ["machine-1"]
    session_id = published.spawn_session("machine-1", "/repo", name="Named by the other")
    assert client.get_session(session_id).name == "Named by the other"
    client.set_session_name(session_id, "Named by us")
    assert published.get_session(session_id).metadata["summary"]["text"] == "Named by us"
    published.send_message(session_id, "hello", poll_interval=0.05)
    client.wait_for_idle(session_id)
    ours, theirs = client.get_messages(session_id), published.get_messages(session_id)
    assert [each.content for each in ours] == [each.content for each in theirs]
    assert [each.seq for each in ours] == [each.seq for each in theirs]
    assert published.is_alive(session_id)
    published.stop_session(session_id)
    assert not client.is_alive(session_id)
    published.delete_session(session_id)
    with pytest.raises(errors.SessionNotFound):
        client.get_session(session_id)


def test_the_caps_of_v1(happy_server: FakeHappyServer, published: Any, client: HappyClient) -> None:
    """It sees 150 sessions and 150 messages; ours sees all."""
    process = happy_server.add_session()
    for number in range(200):
        process.write_event({"t": "text", "text": str(number)}, "turn")
    for _ in range(200):
        happy_server.add_session()
    assert len(published.list_sessions()) == 150
    assert len(client.list_sessions()) == 201
    with pytest.raises(Exception, match="not found"):
        published.get_session(process.session.id)
    process.write_event({"t": "text", "text": "200"}, "turn")  # now it is the latest
    assert len(published.get_messages(process.session.id)) == 150
    assert len(client.get_messages(process.session.id)) == 201


def test_the_race_that_it_loses(
    happy_server: FakeHappyServer, machine: FakeMachine, published: Any, client: HappyClient
) -> None:
    """An agent that answers at once is over before it listens; ours reads what was stored."""
    machine.is_instant = True
    session_id = published.spawn_session("machine-1", "/repo")
    published.send_message(session_id, "hello", poll_interval=0.05)
    with pytest.raises(Exception, match="timed out"):
        published.wait_for_turn_completion(session_id, timeout_seconds=0.3)
    assert client.wait_for_turn_completion(session_id, 30.0).status == "completed"
    assert client.run_prompt(session_id, "and now?", 30.0).text == "Done: and now?"


def test_its_names_are_ours() -> None:
    """Every public name is ours too, or has its row in the migration table."""
    try:
        import happy_sdk
    except ImportError:
        pytest.skip("needs happy-engineering-sdk==0.7.0, which needs Python 3.11")
    import buttdial_sync.happy

    elsewhere = {
        "SyncHappyClient",
        "SessionSubscription",
        "SessionUpdate",
        "UpdateKind",
        "SpawnPermissionMode",
        "SubscriptionClosed",
        "SubscriptionError",
    }
    assert set(happy_sdk.__all__) - set(dir(buttdial_sync.happy)) == elsewhere
    methods = {name for name in vars(happy_sdk.HappyClient) if not name.startswith("_")}
    assert methods - set(dir(HappyClient)) == {"subscribe"}
    for name in dir(happy_sdk):
        published = getattr(happy_sdk, name)
        if isinstance(published, type) and issubclass(published, happy_sdk.HappyError):
            ours = getattr(errors, name, errors.HappyError)
            assert issubclass(ours, errors.HappyError)
