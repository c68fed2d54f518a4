"""The pytest plugin, and the kit without pytest."""

from __future__ import annotations

import unittest

import pytest

from buttdial_sync import AuthError, Client, DoctorReport
from buttdial_sync.testing import FakeButtDialServer, LoopbackServer
from buttdial_sync.testing.dialects import DialectName
from tests.fakes import failed_logins

BASE_URL = "https://butt-dial.test"


@pytest.fixture
def _environment(loopback_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUTT_DIAL_BASE_URL", loopback_server.base_url)
    monkeypatch.setenv("BUTT_DIAL_AGENT_TOKEN", "agent-token")


def test_hosted_by_default(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """Without a mark the server is the hosted one, and the client is ready."""
    assert fake_server.dialect == "hosted"
    assert butt_dial_client.base_url == BASE_URL
    assert butt_dial_client.send_message("+1415", "hi").ok


@pytest.mark.butt_dial(dialect="open-source", tokens=["agent-token"])
def test_marked(fake_server: FakeButtDialServer, butt_dial_client: Client) -> None:
    """The mark's options go to the server, and the client follows."""
    assert fake_server.dialect == "open-source"
    assert butt_dial_client.base_url == BASE_URL
    assert butt_dial_client.send_message("+1415", "hi").ok


@pytest.mark.butt_dial(tokens=["good"])
@pytest.mark.parametrize("loopback_server", ["hosted", "open-source"], indirect=True)
def test_parametrized(loopback_server: LoopbackServer) -> None:
    """A parameter is the dialect; other options come from the mark."""
    url = loopback_server.base_url
    with Client(url, agent_token="bad") as client, pytest.raises(AuthError):
        client.list_tools()
    with Client(url, agent_token="good") as client:
        assert len(client.list_tools()) > 10
    assert loopback_server.fake.connections


def test_a_client_outlives_its_server() -> None:
    """A process-wide client goes on with the next test's server, of whichever kind."""
    with Client(BASE_URL, agent_token="any") as client:
        dialects: tuple[DialectName, ...] = ("hosted", "open-source", "hosted")
        for dialect in dialects:
            fake = FakeButtDialServer(dialect=dialect)
            with fake.mocked():
                assert client.send_message("+1415", dialect).ok
            fake.assert_sent_once(body=dialect)
            # The first stream there came with the token in the header, which this one counts.
            assert failed_logins(fake) == (1 if dialect == "open-source" else 0)


@pytest.mark.usefixtures("_environment")
def test_doctor(doctor_report: DoctorReport, loopback_server: LoopbackServer) -> None:
    """The doctor looks at what the environment names, and sends nothing."""
    assert doctor_report.ok, str(doctor_report)
    loopback_server.fake.assert_nothing_sent()


@pytest.mark.butt_dial(dialect="open-source", tokens=["agent-token"])
@pytest.mark.parametrize("send_via", [None, "stream", "rest", "auto"])
@pytest.mark.usefixtures("_environment")
def test_doctor_takes_nothing(
    send_via: str | None,
    loopback_server: LoopbackServer,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """A smoke test against a server in production loses no customer's message."""
    if send_via is not None:
        monkeypatch.setenv("BUTT_DIAL_SEND_VIA", send_via)
    loopback_server.fake.add_waiting(body="please call me")
    report: DoctorReport = request.getfixturevalue("doctor_report")
    assert report.ok, str(report)
    assert [message["body"] for message in loopback_server.fake.waiting] == ["please call me"]
    assert loopback_server.fake.lost_waiting == 0


def test_unittest() -> None:
    """The kit works in ``unittest``: as a context manager and by install and uninstall."""

    class InstalledTests(unittest.TestCase):
        def setUp(self) -> None:
            self.fake = FakeButtDialServer()
            self.butt_dial = Client(self.fake.install(), agent_token="any")
            self.addCleanup(self.fake.uninstall)
            self.addCleanup(self.butt_dial.close)

        def test_sending(self) -> None:
            assert self.butt_dial.send_message("+1415", "hi").ok
            self.fake.assert_sent_once(body="hi")

        def test_anew(self) -> None:
            self.fake.assert_nothing_sent()

    class ListeningTests(unittest.TestCase):
        def test_sending(self) -> None:
            with FakeButtDialServer().listen() as server:
                with Client(server.base_url, agent_token="any") as client:
                    assert client.send_message("+1415", "hi").ok
                server.fake.assert_sent_once(body="hi")

    load = unittest.defaultTestLoader.loadTestsFromTestCase
    suite = unittest.TestSuite([load(InstalledTests), load(ListeningTests)])
    result = suite.run(unittest.TestResult())
    assert result.testsRun == 3
    assert result.wasSuccessful(), [*result.errors, *result.failures]
