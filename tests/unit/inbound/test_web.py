"""The WSGI and ASGI applications, with servers that do everything that they may."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from buttdial_sync import ArgumentTypeError, InboundHandler, InboundMessage, OperatorApi
from buttdial_sync.inbound import web
from buttdial_sync.inbound.web import Request, Response
from tests.unit.operator.host import Directory, FailedMessages

BODY = b'{"from": "+1", "body": "hi", "messageId": "m1"}'


class OneByte(io.BytesIO):
    """A stream that gives one byte at a time, as WSGI allows, and notes how many were wanted."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.wanted: list[int | None] = []

    def read(self, size: int | None = -1) -> bytes:
        self.wanted.append(size)
        return super().read(1 if size else 0)


def environ(body: bytes = b"", **more: Any) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/butt-dial/",
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": OneByte(body),
        **more,
    }


def scope(**more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "POST",
        "path": "/butt-dial/",
        "query_string": b"",
        "headers": [],
        **more,
    }


def call(application: web.WsgiApplication, given: dict[str, Any]) -> tuple[str, Any, bytes]:
    answers: list[tuple[str, Any]] = []
    parts = application(given, lambda status, headers: answers.append((status, dict(headers))))
    ((status, headers),) = answers
    return status, headers, b"".join(parts)


def run(
    application: web.AsgiApplication, given: dict[str, Any], *messages: dict[str, Any]
) -> list[Any]:
    """Let an ASGI application receive the messages; return what it sent."""
    waiting, sent = list(messages), list[Any]()

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        await application(given, receive, send)

    asyncio.run(main())
    assert waiting == []
    return sent


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS"])
def test_other_methods(method: str) -> None:
    """They are refused, and told which ones there are."""
    application = InboundHandler(allow_unsigned=["butt-dial"]).wsgi()
    status, headers, _ = call(application, environ(BODY, REQUEST_METHOD=method))
    assert status.startswith("405 ")
    assert headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whatsapps_subscription(method: str) -> None:
    """It is asked for at the same address; without a challenge it is refused."""
    application = InboundHandler(whatsapp_verify_token="v").wsgi()
    query = "hub.mode=subscribe&hub.verify_token=v"
    asked = environ(REQUEST_METHOD=method, QUERY_STRING=f"{query}&hub.challenge=12")
    status, headers, _ = call(application, asked)
    assert status.startswith("200 ")
    assert "Allow" not in headers
    status, _, _ = call(application, environ(REQUEST_METHOD=method, QUERY_STRING=query))
    assert status.startswith("403 ")


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def shown() -> tuple[list[Request], Any]:
    """A function that answers a request, and the list in which it keeps it."""
    requests: list[Request] = []

    def respond(request: Request) -> Response:
        requests.append(request)
        return Response(status=201, body="ü", headers={"X-Test": "1"})

    return requests, respond


def test_a_wsgi_request() -> None:
    """All of it, in the forms in which WSGI writes it."""
    requests, respond = shown()
    given = environ(
        b"1234",
        PATH_INFO="/agents/\xc3\xbc/",
        QUERY_STRING="a=1&b=%C3%BC&a=2&c=",
        HTTP_X_BD_SIGNATURE="s",
    )
    status, headers, body = call(web.wsgi_application(respond, 10), given)
    assert (status, headers, body) == (
        "201 Created",
        {"X-Test": "1", "Content-Length": "2"},
        "ü".encode(),
    )
    assert requests == [
        Request(
            method="POST",
            path="agents/ü",
            query={"a": "2", "b": "ü", "c": ""},
            headers={"x-bd-signature": "s"},
            body=b"1234",
            surroundings=given,
        )
    ]


def test_a_request_shows_no_secret() -> None:
    """Its headers, parameters, body and surroundings may hold one."""
    secret = {"token": "a-secret"}
    request = Request(
        method="POST", path="sms", query=secret, headers=secret, body=b"a-secret",
        surroundings=secret,
    )  # fmt: skip
    assert repr(request) == "Request(method='POST', path='sms')"


@pytest.mark.parametrize(
    ("declared", "read"),
    [("3", 3), ("5", 5), ("6", 6), ("9", 6), ("", 0), ("x", 0), ("-1", 0), ("9" * 5000, 0)],
)
def test_how_much_of_a_body_is_read(declared: str, read: int) -> None:
    """At most one byte more than is wanted, and never more than was declared."""
    assert len(web.read_body(environ(b"x" * 9, CONTENT_LENGTH=declared), 5)) == read


def test_a_request_without_a_body() -> None:
    """Before HTTP/2 it has no length then."""
    given = environ(b"x")
    del given["CONTENT_LENGTH"]
    assert web.read_body(given, 5) == b""


def test_no_more_is_asked_for_than_is_left() -> None:
    """A server may wait for what never comes, and one takes 0 for everything."""
    given = environ(b"12345", CONTENT_LENGTH="3")
    assert web.read_body(given, 9) == b"123"
    assert given["wsgi.input"].wanted == [3, 2, 1]


@pytest.mark.parametrize("ends", [True, False])
def test_a_wsgi_body_in_chunks(ends: bool) -> None:
    """It is read if the server puts the chunks together; else the sender has to send it whole."""
    inbound = InboundHandler(allow_unsigned=["butt-dial"])
    more = {"wsgi.input_terminated": True} if ends else {}
    given = environ(BODY, HTTP_TRANSFER_ENCODING="Chunked", **more)
    del given["CONTENT_LENGTH"]
    status, _, body = call(inbound.wsgi(), given)
    assert status == ("200 OK" if ends else "411 Length Required")
    assert ("Content-Length" in json.loads(body).get("error", "")) is not ends


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("protocol", ["HTTP/2", "HTTP/2.0", "HTTP/3"])
def test_a_wsgi_body_without_a_length(protocol: str, ends: bool) -> None:
    """From HTTP/2 on a body needs neither chunks nor a length; it must not count as empty."""
    inbound = InboundHandler(allow_unsigned=["butt-dial"])
    more = {"wsgi.input_terminated": True} if ends else {}
    given = environ(BODY, SERVER_PROTOCOL=protocol, **more)
    del given["CONTENT_LENGTH"]
    status, _, body = call(inbound.wsgi(), given)
    assert status == ("200 OK" if ends else "411 Length Required")
    assert ("Content-Length" in json.loads(body).get("error", "")) is not ends


@pytest.mark.parametrize(
    "more",
    [
        {"SERVER_PROTOCOL": "HTTP/1.1", "wsgi.input_terminated": True},
        {"SERVER_PROTOCOL": "HTTP/2", "CONTENT_LENGTH": str(len(BODY))},
        {"SERVER_PROTOCOL": "HTTP/2", "REQUEST_METHOD": "GET"},
        {"SERVER_PROTOCOL": "HTTP/2", "REQUEST_METHOD": "HEAD"},
    ],
)
def test_what_has_a_length_or_no_body(more: dict[str, Any]) -> None:
    """All else is as before: what is declared is read."""
    given = {**environ(BODY), "CONTENT_LENGTH": "", **more}
    requests, respond = shown()
    assert call(web.wsgi_application(respond, 100), given)[0] == "201 Created"
    assert requests[0].body == (BODY if given["CONTENT_LENGTH"] else b"")


def test_what_handlers_get_of_the_request() -> None:
    """Those that need two arguments: environ or scope, for hosts whose tenants differ in them."""
    inbound = InboundHandler(allow_unsigned=["butt-dial"])
    got: list[object] = []

    @inbound.on_message
    def received(_: InboundMessage, surroundings: Mapping[str, Any]) -> None:
        got.append(surroundings["tenant"])

    assert call(inbound.wsgi(), environ(BODY, tenant="a"))[0] == "200 OK"
    other = BODY.replace(b"m1", b"m2")
    run(inbound.asgi(), scope(tenant="b"), part(other))
    assert got == ["a", "b"]


def test_an_asgi_request() -> None:
    """In parts, below the place where it is mounted; two headers of a name are joined."""
    requests, respond = shown()
    given = scope(
        path="/hooks/agents/ü/",
        root_path="/hooks/",
        query_string=b"a=1&a=2&b=",
        headers=[(b"X-BD-Signature", b"a"), (b"x-bd-signature", b"b")],
    )
    sent = run(web.asgi_application(respond, 10), given, part(b"12", more=True), part(b"34"))
    assert sent == [
        {
            "type": "http.response.start",
            "status": 201,
            "headers": [(b"x-test", b"1"), (b"content-length", b"2")],
        },
        {"type": "http.response.body", "body": "ü".encode()},
    ]
    (request,) = requests
    assert (request.path, request.query, request.body) == ("agents/ü", {"a": "2", "b": ""}, b"1234")
    assert request.headers == {"x-bd-signature": "a,b"}
    assert request.surroundings is given


@pytest.mark.parametrize(
    ("path", "root_path", "channel"),
    [
        ("/whatsapp/", "", "whatsapp"),
        ("/hooks//whatsapp", "/hooks", "whatsapp"),
        ("/hooks/whatsapp", "/hooks", "whatsapp"),
        ("/whatsapp", "/hooks", "whatsapp"),
        ("/hooksy/whatsapp", "/hooks", "hooksy/whatsapp"),
        ("/butt-dial/butt-dial/", "/butt-dial", "butt-dial"),
        ("/butt-dial/", "/butt-dial", "butt-dial"),
        ("/butt-dial", "/butt-dial/", "butt-dial"),
    ],
)
def test_where_an_application_is_mounted(path: str, root_path: str, channel: str) -> None:
    """Routers differ in whether they leave that in the path."""
    requests, respond = shown()
    given = scope(path=path, root_path=root_path)
    run(web.asgi_application(respond, 10), given, part(b""))
    assert [request.path for request in requests] == [channel]


def test_a_client_that_goes_away() -> None:
    """Half a body is not handed over, and nobody is there to be answered."""
    requests, respond = shown()
    gone = {"type": "http.disconnect"}
    assert run(web.asgi_application(respond, 10), scope(), part(b"1", more=True), gone) == []
    assert requests == []


def test_a_body_without_an_end() -> None:
    """No more of it is received than is enough to refuse it."""
    requests, respond = shown()
    run(web.asgi_application(respond, 3), scope(), part(b"12", more=True), part(b"34", more=True))
    assert [request.body for request in requests] == [b"1234"]
    run(web.asgi_application(respond, 2), scope(), part(b"12", more=True), part(b"3", more=True))
    assert requests[1].body == b"123"


def test_the_life_of_a_server() -> None:
    """It may ask about start and end; WebSockets are closed."""
    application = web.asgi_application(shown()[1], 3)
    start, end = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
    assert run(application, {"type": "lifespan"}, start, end) == [
        {"type": "lifespan.startup.complete"},
        {"type": "lifespan.shutdown.complete"},
    ]
    assert run(application, {"type": "websocket"}) == [{"type": "websocket.close"}]


@pytest.mark.parametrize("yes", [1, "yes", object()])
def test_only_true_is_a_permission(yes: object) -> None:
    """What an operator's request is allowed is not guessed."""
    given: dict[str, Any] = {"PATH_INFO": "/agents", "REQUEST_METHOD": "GET"}
    client: Any = None
    api = OperatorApi(client, Directory(), FailedMessages())
    for permission, status in ((yes, "403 Forbidden"), (True, "200 OK")):
        asked: list[object] = []

        def answer(surroundings: object, permission: Any = permission) -> Any:
            asked.append(surroundings)  # noqa: B023 - called before the next round
            return permission

        request = environ(**given)
        assert call(api.wsgi(answer), request)[0] == status
        assert asked == [request]


def test_a_permission_is_a_plain_function() -> None:
    """A coroutine would never say no."""
    client: Any = None
    api = OperatorApi(client, Directory(), FailedMessages())

    async def permission(_: object) -> bool:
        return False

    makers: Iterable[Any] = (api.wsgi, api.asgi)
    for make in makers:
        with pytest.raises(ArgumentTypeError, match="permission"):
            make(permission)


def test_hosts_without_an_event_loop_load_none() -> None:
    """asyncio takes longer to load than a webhook to answer."""
    program = (
        "import sys; from buttdial_sync import InboundHandler, OperatorApi;"
        "InboundHandler().wsgi(); print('asyncio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"False"
