"""The Flask extension, through Flask's test client."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, abort, current_app, redirect, request
from flask.testing import FlaskClient

from buttdial_sync import (
    AccountsClient,
    ArgumentTypeError,
    ClientClosedError,
    ConfigError,
    InboundHandler,
    InboundReport,
)
from buttdial_sync.contrib.flask import ButtDial
from buttdial_sync.models.inbound import InboundEvent
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.simulate import Delivery, HostSimulator
from tests.unit.operator.host import Directory, FailedMessages

server = HostSimulator(whatsapp_secret="app-secret")
ADDRESS = "/butt-dial/operator"


class Host:
    """A Flask application, what it received, and who may use its operator API."""

    def __init__(self) -> None:
        self.app = Flask(__name__)
        self.app.config.update(
            BUTT_DIAL_BASE_URL="https://butt-dial.test",
            BUTT_DIAL_AGENT_TOKEN="agent-token",
            BUTT_DIAL_TEAM_TOKEN="team-token",
            BUTT_DIAL_LISTENER={"max_attempts": 1},
        )
        self.inbound = InboundHandler(
            whatsapp_verify_token="verify-me",
            whatsapp_webhook_secret="app-secret",
            account_webhook_secret="webhook-secret",
            allow_unsigned=["butt-dial"],
        )
        self.received: list[Any] = []
        self.undelivered: list[InboundEvent] = []
        self.failures = 0
        self.allowed = True
        self.inbound.on_message(self.receive)
        self.inbound.on_account_verified(self.receive)
        self.butt_dial = ButtDial(
            inbound=self.inbound,
            directory=Directory(),
            failed_messages=FailedMessages(),
            permission=lambda: self.allowed,
            on_undelivered=self.undelivered.append,
        )
        self.butt_dial.init_app(self.app)

    def receive(self, event: Any) -> None:
        assert current_app.name == self.app.name
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the host's fault")
        self.received.append(event)


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.butt_dial.close(host.app)


@pytest.fixture
def http(host: Host) -> FlaskClient:
    return host.app.test_client()


def send(http: FlaskClient, channel: str, delivery: Delivery, **headers: str) -> int:
    address = f"/butt-dial/{channel}/"
    sent = {**delivery.headers, **headers}
    return http.post(address, data=delivery.body, headers=sent).status_code


def test_a_forged_webhook_is_refused(http: FlaskClient, host: Host) -> None:
    """A wrong signature is 401, and nobody is called."""
    delivery = server.whatsapp({"text": {"body": "hi"}})
    wrong = {"X-Hub-Signature-256": "sha256=" + 64 * "0"}
    assert send(http, "whatsapp", delivery, **wrong) == 401
    assert host.received == []


def test_a_large_body_is_refused(http: FlaskClient, host: Host) -> None:
    """A body above max_body_bytes is 413."""
    large = Delivery(body=b" " * (1024 * 1024 + 1), headers={})
    assert send(http, "butt-dial", large) == 413


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize(
    "way", [{"HTTP_TRANSFER_ENCODING": "chunked"}, {"SERVER_PROTOCOL": "HTTP/2"}]
)
def test_a_body_without_a_length(
    http: FlaskClient, host: Host, way: dict[str, str], ends: bool
) -> None:
    """It is read if the server tells where it ends; else the sender has to say its length."""
    environ = {"CONTENT_LENGTH": "", "wsgi.input_terminated": ends, **way}
    stream = BytesIO(server.message(body="hi").body)
    answer = http.post("/butt-dial/butt-dial/", input_stream=stream, environ_overrides=environ)
    assert answer.status_code == (200 if ends else 411)
    assert [event.text for event in host.received] == ["hi"] * ends


def test_a_failed_handler_gets_the_retry(
    http: FlaskClient, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that fails makes the answer 500; the sender's retry comes through, once."""
    host.failures = 1
    delivery = server.account_verified()
    with caplog.at_level(logging.CRITICAL, "buttdial_sync"):
        assert send(http, "account", delivery) == 500
    assert [send(http, "account", delivery) for _ in range(2)] == [200, 200]
    assert [event.org_id for event in host.received] == ["org-1"]


def test_a_webhook_is_handed_over(http: FlaskClient, host: Host) -> None:
    """A signed message reaches its handler, with or without the last slash of the address."""
    delivery = server.whatsapp({"text": {"body": "hi"}})
    answer = http.post("/butt-dial/whatsapp", data=delivery.body, headers=dict(delivery.headers))
    assert answer.status_code == 200
    assert [event.text for event in host.received] == ["hi"]


def test_a_body_that_the_host_has_read(http: FlaskClient, host: Host) -> None:
    """A host may read the body before the view does, as for its log; the signature stays right."""
    host.app.before_request(lambda: request.get_data() and None)
    assert send(http, "whatsapp", server.whatsapp({"text": {"body": "hi"}})) == 200
    assert [event.text for event in host.received] == ["hi"]


def test_the_subscription_challenge(http: FlaskClient) -> None:
    """WhatsApp's GET is answered with its challenge if the token is right."""
    query = {"hub.mode": "subscribe", "hub.verify_token": "verify-me", "hub.challenge": "42"}
    answer = http.get("/butt-dial/whatsapp/", query_string=query)
    assert (answer.status_code, answer.data) == (200, b"42")
    wrong = http.get("/butt-dial/whatsapp/", query_string={**query, "hub.verify_token": "x"})
    assert wrong.status_code == 403


@pytest.mark.parametrize("missing", ["directory", "failed_messages", "permission"])
def test_an_operator_api_needs_all_three(missing: str) -> None:
    """Without a permission, or another of the three, there is no operator API but an error."""
    given: dict[str, Any] = {
        "directory": Directory(),
        "failed_messages": FailedMessages(),
        "permission": lambda: True,
    }
    del given[missing]
    with pytest.raises(ConfigError, match="operator API"):
        ButtDial(Flask(__name__), **given)


@pytest.mark.parametrize(
    ("key", "options", "told"),
    [
        ("BUTT_DIAL_CLIENT", {"timeot": 3}, "'timeot' is unknown: did you mean 'timeout'?"),
        ("BUTT_DIAL_ACCOUNTS", {"xyz": 3}, "BUTT_DIAL_ACCOUNTS: 'xyz' is unknown"),
        ("BUTT_DIAL_LISTENER", {"inbound": None}, "'inbound' is unknown"),
    ],
)
def test_a_misspelt_option(key: str, options: dict[str, Any], told: str) -> None:
    """It is named when the application is made, not at the first request."""
    app = Flask(__name__)
    app.config[key] = options
    with pytest.raises(ConfigError, match=re.escape(told)):
        ButtDial(app)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("BUTT_DIAL_CA_BUNDLE", Path("missing-ca.pem"), "missing-ca.pem"),
        ("BUTT_DIAL_CLIENT_CERT", ("missing.crt", "missing.key"), "nothing at missing.crt"),
    ],
)
def test_files_are_not_only_texts(host: Host, name: str, value: Any, told: str) -> None:
    """A path and a tuple reach the client, which looks at the files."""
    host.app.config[name] = value
    with host.app.app_context(), pytest.raises(ConfigError, match=told):
        _ = host.butt_dial.client


@pytest.mark.parametrize("name", ["BUTT_DIAL_AGENT_TOKEN", "BUTT_DIAL_AGENT_ID"])
def test_a_setting_that_is_not_a_text(host: Host, name: str) -> None:
    """It is told when the extension is added, or on first use if it was set later."""
    app = Flask(__name__)
    app.config.update({"BUTT_DIAL_BASE_URL": None, "BUTT_DIAL_OF_THE_HOST": 7, name: b"7"})
    with pytest.raises(ConfigError, match=f"{name} must be a text"):
        ButtDial(app)
    host.app.config[name] = 7
    with host.app.app_context(), pytest.raises(ConfigError, match=f"{name} must be a text"):
        _ = host.butt_dial.client


def test_nothing_is_open_unless_asked_for() -> None:
    """Without a handler and a directory the extension adds no address."""
    app = Flask(__name__)
    ButtDial(app)
    assert app.test_client().get(f"{ADDRESS}/agents").status_code == 404
    assert app.test_client().post("/butt-dial/whatsapp/").status_code == 404


def test_without_permission(http: FlaskClient, host: Host) -> None:
    """Whoever may not gets 403; the permission may also abort the request itself."""
    host.allowed = False
    assert http.get(f"{ADDRESS}/agents").status_code == 403
    app = Flask(__name__)
    ButtDial(
        app,
        directory=Directory(),
        failed_messages=FailedMessages(),
        permission=lambda: abort(401),
    )
    assert app.test_client().get(f"{ADDRESS}/agents").status_code == 401


@pytest.mark.parametrize("said", [redirect("/login"), ("no", 403), "yes", 1], ids=str)
def test_only_true_is_a_yes(said: Any) -> None:
    """What else a permission returns, such as a redirect to the login, lets nobody in."""
    app = Flask(__name__)
    ButtDial(
        app,
        directory=Directory(),
        failed_messages=FailedMessages(),
        permission=lambda: said,
    )
    http = app.test_client()
    assert http.get(f"{ADDRESS}/agents").status_code == 403
    meant = {"X-Requested-With": "fetch"}
    assert http.post(f"{ADDRESS}/agents/7/activate", headers=meant).status_code == 403


def test_a_permission_that_is_a_coroutine_function() -> None:
    """It is refused when the extension is made: a coroutine says nothing yet."""

    async def permission() -> bool:
        return False

    with pytest.raises(ArgumentTypeError, match="plain function"):
        ButtDial(
            directory=Directory(),
            failed_messages=FailedMessages(),
            permission=permission,  # type: ignore[arg-type]
        )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"X-Requested-With": "fetch", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-Requested-With": "fetch"}, 200),
        ({"x-requested-with": "fetch", "sec-fetch-site": "same-origin"}, 200),
    ],
    ids=str,
)
def test_changes_must_be_meant(http: FlaskClient, headers: dict[str, str], status: int) -> None:
    """A POST that a form of another site could send is refused."""
    assert http.post(f"{ADDRESS}/agents/7/activate", headers=headers).status_code == status


def test_the_operator_api(http: FlaskClient, fake_server: FakeButtDialServer) -> None:
    """The answers are the ones of the operator API, and not cached."""
    overview = http.get(f"{ADDRESS}/overview")
    assert overview.get_json()["connection_status"] == "connected"
    assert overview.headers["Cache-Control"] == "no-store"
    assert http.get(f"{ADDRESS}/failed-messages?limit=2").get_json()[0]["id"] == "2"
    wrong = http.get(f"{ADDRESS}/agents/7/activate")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")


def test_the_client_is_the_applications(host: Host, fake_server: FakeButtDialServer) -> None:
    """An application has one client, made of its config, and closed when it is told to."""
    with host.app.app_context():
        client = host.butt_dial.client
        assert client is host.butt_dial.client
        assert client.send_message("+14155550123", "hi").ok
        assert isinstance(host.butt_dial.accounts, AccountsClient)
    host.butt_dial.close(host.app)
    with pytest.raises(ClientClosedError):
        client.ping()


def test_the_environment_fills_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the config lacks is looked up in the environment; the config wins."""
    monkeypatch.setenv("BUTT_DIAL_BASE_URL", "https://env.test")
    app = Flask(__name__)
    butt_dial = ButtDial(app)
    with app.app_context():
        assert butt_dial.client.base_url == "https://env.test"
    app.config["BUTT_DIAL_URL"] = "https://config.test"
    butt_dial.close(app)
    with app.app_context():
        assert butt_dial.client.base_url == "https://config.test"
    butt_dial.close(app)


def test_commands_without_a_server() -> None:
    """A command without a server ends with 2."""
    app = Flask(__name__)
    ButtDial(app)
    done = app.test_cli_runner().invoke(args=["buttdial", "send", "+1", "hi"])
    assert done.exit_code == 2
    assert "base_url" in done.output


def test_send_command(host: Host, fake_server: FakeButtDialServer) -> None:
    """``flask buttdial send`` sends, and ends with 1 when the server refuses."""
    run = host.app.test_cli_runner().invoke
    assert run(args=["buttdial", "send", "+14155550123", "hi", "--channel", "sms"]).exit_code == 0
    assert fake_server.sent_messages[0].body == "hi"
    fake_server.on_send(error="Recipient has not consented", code="NO_CONSENT")
    refused = run(args=["buttdial", "send", "+14155550123", "hi"])
    assert refused.exit_code == 1
    assert "has not consented" in refused.output


def test_doctor_command(host: Host, fake_server: FakeButtDialServer) -> None:
    """``flask buttdial doctor`` shows the stages, and sends only where it is told."""
    run = host.app.test_cli_runner().invoke
    done = run(args=["buttdial", "doctor", "--to", "+14155550123"])
    assert (done.exit_code, "[OK] send_message accepted" in done.output) == (0, True)
    fake_server.assert_sent_once(to="+14155550123")


def test_poll_command(host: Host, fake_server: FakeButtDialServer) -> None:
    """``flask buttdial poll`` hands over inside an application context; what failed is kept."""
    run = host.app.test_cli_runner().invoke
    fake_server.add_waiting(body="one", externalId="x1")
    assert run(args=["buttdial", "poll"]).output.strip() == "1 handed over"
    assert [event.text for event in host.received] == ["one"]
    host.failures = 1
    fake_server.add_waiting(body="two", externalId="x2")
    assert run(args=["buttdial", "poll"]).exit_code == 0
    assert len(host.undelivered) == 1


def test_a_teardown_that_fails_does_not_end_the_listener(
    host: Host, fake_server: FakeButtDialServer
) -> None:
    """What was handled is handled, and what came with it is handed over too."""
    teardowns: list[object] = []

    @host.app.teardown_appcontext
    def fail_once(_: object) -> None:
        teardowns.append(None)
        if len(teardowns) == 2:
            raise OSError("the database is down")

    for number in range(3):
        fake_server.add_waiting(body=str(number), externalId=f"x{number}")
    done = host.app.test_cli_runner().invoke(args=["buttdial", "poll"])
    assert (done.exit_code, done.output.strip()) == (0, "3 handed over")
    assert [event.text for event in host.received] == ["0", "1", "2"]
    assert host.undelivered == []


def test_a_command_that_does_not_understand_the_server(
    host: Host, fake_server: FakeButtDialServer
) -> None:
    """It may have lost messages, so that it does not end as if all were well."""
    fake_server.on_rest("GET", "/api/v1/waiting-messages", {"messages": "odd"})
    done = host.app.test_cli_runner().invoke(args=["buttdial", "poll"])
    assert (done.exit_code, "unexpected shape" in done.output) == (3, True)


def test_a_handler_class_of_the_hosts(fake_server: FakeButtDialServer) -> None:
    """What it does around each event is done by the commands too."""
    traced: list[str | None] = []

    class Traced(InboundHandler):
        def dispatch_event(
            self, event: InboundEvent, delivery_keys: Sequence[str] = ()
        ) -> InboundReport:
            traced.append(getattr(event, "text", None))
            return super().dispatch_event(event, delivery_keys)

    app = Flask(__name__)
    app.config.update(BUTT_DIAL_BASE_URL="https://butt-dial.test", BUTT_DIAL_AGENT_TOKEN="token")
    butt_dial = ButtDial(app, inbound=Traced())
    fake_server.add_waiting(body="one", externalId="x1")
    assert app.test_cli_runner().invoke(args=["buttdial", "poll"]).exit_code == 0
    assert traced == ["one"]
    butt_dial.close(app)
