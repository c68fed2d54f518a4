"""The integrations for Apprise, RapidSMS and Alerta, under the real packages if they are there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from buttdial_sync.testing import FakeButtDialServer

pytestmark = pytest.mark.slow

INTEGRATIONS = Path(__file__).parents[2] / "examples" / "integrations"
TOKEN = "agent-token-of-the-host"
ANA, BEN = "+14155550123", "+14155550124"
FILES = {
    "alerta_plugin": "here",
    "apprise_plugin": "here",
    "healthchecks_transport": "tests/hosts/healthchecks",
    "rapidsms_backend": "here",
    "two_factor_gateway": "tests/hosts/two_factor_login",
}
"""Each file of "integrations", and where its tests are."""


def test_every_integration_is_tested() -> None:
    """No file is without tests."""
    assert {path.stem for path in INTEGRATIONS.glob("*.py")} == FILES.keys()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[FakeButtDialServer]:
    fake = FakeButtDialServer(dialect=getattr(request, "param", "hosted"))
    with fake.mocked():
        yield fake


open_source = pytest.mark.parametrize("server", ["open-source"], indirect=True)


@pytest.fixture(autouse=True)
def _no_token_in_logs(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever is logged while a test runs, the token is not in it."""
    caplog.set_level(logging.DEBUG)
    yield
    assert TOKEN not in caplog.text


def integration(name: str, package: str, install: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import an integration; skip where its project is not installed."""
    pytest.importorskip(package, reason=f"needs {package}: {install}")
    monkeypatch.syspath_prepend(str(INTEGRATIONS))
    return import_module(name)


# Their own imports are not ours to correct.
theirs = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@theirs
class TestApprise:
    """``buttdials://`` in Apprise."""

    @pytest.fixture
    def apprise(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Return the package, which knows the plugin."""
        ours = integration("apprise_plugin", "apprise", "pip install apprise", monkeypatch)
        apprise = import_module("apprise")
        manager = import_module("apprise.manager_plugins").NotificationManager()
        if "buttdials" not in manager.schemas():
            assert manager.add(ours.NotifyButtDial)
        return apprise

    ADDRESS = f"buttdials://{TOKEN}@butt-dial.test/{ANA}/{BEN}"

    def tell(self, apprise: Any, address: str = ADDRESS) -> bool:
        app = apprise.Apprise()
        assert app.add(address)
        return bool(app.notify("hello"))

    def test_everybody_is_told(self, apprise: Any, server: FakeButtDialServer) -> None:
        """Title and text go to each target, over the channel of the address."""
        app = apprise.Apprise()
        assert app.add(f"buttdials://{TOKEN}@butt-dial.test/{ANA}/?to={BEN}&channel=whatsapp")
        assert app.notify(title="Disk", body="full")
        sent = server.delivered
        assert sorted(str(message.to) for message in sent) == [ANA, BEN]
        assert {(message.channel, message.token) for message in sent} == {("whatsapp", TOKEN)}
        assert str(sent[0].body).split() == ["Disk", "full"]

    def test_its_address(self, apprise: Any) -> None:
        """An address comes back as it was given; for logs without the token."""
        service = apprise.Apprise.instantiate(f"{self.ADDRESS}?channel=email")
        again = apprise.Apprise.instantiate(service.url())
        assert again.url() == service.url()
        assert (again.targets, again.channel) == ([ANA, BEN], "email")
        assert len(service) == 2
        assert TOKEN not in service.url(privacy=True)
        local = apprise.Apprise.instantiate(f"buttdial://{TOKEN}@127.0.0.1:8080/{ANA}")
        assert local.base_url == "http://127.0.0.1:8080"

    @pytest.mark.parametrize(
        "address", ["t@a.test/+1?channel=fax", "a.test/+1", "t@a.test/?verify=no"]
    )
    def test_what_cannot_work(self, apprise: Any, address: str) -> None:
        """A wrong address is no service."""
        assert apprise.Apprise.instantiate(f"buttdials://{address}") is None

    def test_nobody_to_tell(self, apprise: Any, server: FakeButtDialServer) -> None:
        """Without targets there is no message."""
        assert not self.tell(apprise, f"buttdials://{TOKEN}@butt-dial.test")
        server.assert_nothing_sent()

    def test_a_refusal(self, apprise: Any, server: FakeButtDialServer) -> None:
        """If one target is refused, the others are told all the same."""
        server.on_send(error="Recipient has opted out", code="DO_NOT_CONTACT")
        assert not self.tell(apprise)
        server.assert_sent_once(to=BEN)

    @pytest.mark.parametrize(("failure", "tries"), [("busy", 3), ("Recipient has opted out", 2)])
    def test_its_own_retries(
        self, apprise: Any, server: FakeButtDialServer, failure: str, tries: int
    ) -> None:
        """Apprise repeats what failed and not what was sent, and nothing that is for ever."""
        server.on_send(sid="SM-1")
        server.on_send(error=failure)
        assert self.tell(apprise, f"{self.ADDRESS}?retry=1&wait=0") is (failure == "busy")
        assert [message.to for message in server.sent_messages] == [ANA, BEN, BEN][:tries]

    @open_source
    def test_an_unknown_outcome(self, apprise: Any, server: FakeButtDialServer) -> None:
        """What may have been sent is an error, and no retry repeats it."""
        server.fault("cut", delivered=True)
        assert not self.tell(apprise, f"{self.ADDRESS}?retry=2&wait=0")
        assert [message.to for message in server.delivered] == [ANA, BEN]


@theirs
class TestRapidSMS:
    """A backend under RapidSMS's base class."""

    @pytest.fixture
    def backend(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        ours = integration("rapidsms_backend", "rapidsms", "pip install rapidsms", monkeypatch)
        options = {"base_url": "https://butt-dial.test", "agent_token": TOKEN}
        made = ours.ButtDialBackend(None, "butt-dial", **options)
        again = ours.ButtDialBackend(None, "butt-dial", **options)
        assert made.client is again.client
        assert TOKEN not in str(vars(made))
        return made

    def test_everybody_gets_it(self, backend: Any, server: FakeButtDialServer) -> None:
        """A message goes to each identity, and a second call for it repeats nothing."""
        for _ in range(2):
            backend.send("id-1", "hello", [ANA, BEN], {})
        assert sorted(str(message.to) for message in server.delivered) == [ANA, BEN]
        assert len(server.sent_messages) == 4

    def test_a_refusal(self, backend: Any, server: FakeButtDialServer) -> None:
        """The router gets the identities that failed, and no other."""
        errors = import_module("rapidsms.errors")
        with pytest.raises(errors.MessageSendingError, match="1 messages failed") as caught:
            backend.send("id-2", "hello", [ANA, "nonsense"])
        assert vars(caught.value)["failed_identities"] == ["nonsense"]
        server.assert_sent_once(to=ANA)

    @open_source
    def test_an_unknown_outcome(self, backend: Any, server: FakeButtDialServer) -> None:
        """Who may have got it is not among those who failed: the router would repeat it."""
        server.fault("cut", delivered=True)
        backend.send("id-3", "hello", [ANA])
        assert len(server.sent_messages) == 1


@theirs
class TestAlerta:
    """A plugin under Alerta's base class."""

    @pytest.fixture
    def plugin(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        ours = integration("alerta_plugin", "alerta", "pip install alerta-server", monkeypatch)
        return ours.Tell()

    CONFIG: dict[str, Any] = {  # noqa: RUF012 - nobody changes it
        "BUTT_DIAL_BASE_URL": "https://butt-dial.test",
        "BUTT_DIAL_AGENT_TOKEN": TOKEN,
        "BUTT_DIAL_RECIPIENTS": [ANA, BEN],
    }

    def receive(self, plugin: Any, **fields: Any) -> None:
        given = {"id": "alert-1", "severity": "critical", "repeat": False, **fields}
        alert = SimpleNamespace(resource="web01", event="Down", text="no answer", **given)
        assert plugin.pre_receive(alert) is alert
        assert plugin.post_receive(alert, config=self.CONFIG) is alert

    def test_people_are_told(self, plugin: Any, server: FakeButtDialServer) -> None:
        """A severe alert is told to each recipient; an alert that comes twice at once only once."""
        for _ in range(2):
            self.receive(plugin)
        assert sorted(str(message.to) for message in server.delivered) == [ANA, BEN]
        assert server.delivered[0].body == "CRITICAL: web01 Down: no answer"

    @pytest.mark.parametrize("fields", [{"severity": "minor"}, {"repeat": True}])
    def test_nobody_is_told(
        self, plugin: Any, server: FakeButtDialServer, fields: dict[str, Any]
    ) -> None:
        """Neither of what is not severe nor of what was told before."""
        self.receive(plugin, **fields)
        server.assert_nothing_sent()

    def test_a_fault(
        self, plugin: Any, server: FakeButtDialServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A recipient who cannot be told, or a missing setting, never stops an alert."""
        server.on_send(error="no consent", count=2)
        self.receive(plugin, id="alert-2")
        assert f"{ANA} was not told: no consent" in caplog.text
        broken = SimpleNamespace(id="alert-3", severity="major", repeat=False)
        assert plugin.post_receive(broken, config={}) is broken
        assert "nobody was told about alert alert-3" in caplog.text
