"""The demo: two fake servers, and a few calls that show what the library promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import attrs

from buttdial_sync.client import Client
from buttdial_sync.errors import ToolError
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.models.sending import SendResult
from buttdial_sync.testing import FakeButtDialServer
from buttdial_sync.testing.dialects import DialectName

_TO: Final = "+14155550123"
_TEXT: Final = "Your order has shipped."
_TOKEN: Final = "demo-token"  # good only at the fake servers
_QUESTION: Final = "Which day?"
_ANSWERS: Final = ("Monday", "Friday")

Finding = tuple[bool, str]
"""Whether the library kept its promise, and what happened, in words."""

Act = Callable[[Client, FakeButtDialServer], Finding]


@attrs.frozen(kw_only=True)
class Step:
    """
    One step of the demo, carried out.

    Attributes:
        server: ``"hosted"`` or ``"open-source"``.
        title: What it is about.
        call: The call, as one would write it.
        result: What happened.
        why: Why it matters.
        ok: Whether it went as promised.
        milliseconds: How long it took.
    """

    server: DialectName
    title: str
    call: str
    result: str
    why: str
    ok: bool
    milliseconds: float


@attrs.frozen(kw_only=True)
class _Plan:
    title: str
    call: str
    why: str
    act: Act


def play(clock: Callable[[], float], on_event: Callable[[ClientEvent], None]) -> Iterator[Step]:
    """
    Carry out the steps, one each time that the iterator is asked.

    Args:
        clock: Tells the time, in seconds.
        on_event: Gets the events of the clients.

    Raises:
        ButtDialError: A fake server could not be reached.
    """
    for dialect, plans in _SCENES:
        fake = FakeButtDialServer(dialect=dialect, tokens=[_TOKEN])
        with (
            fake.listen() as server,
            Client(
                server.base_url,
                agent_token=_TOKEN,
                on_event=on_event,
                before_open=lambda _: None,  # nothing waits on a new server, so nothing gets lost
            ) as client,
        ):
            for plan in plans:
                started = clock()
                ok, result = plan.act(client, fake)
                yield Step(
                    server=dialect,
                    title=plan.title,
                    call=plan.call,
                    result=result,
                    why=plan.why,
                    ok=ok,
                    milliseconds=round((clock() - started) * 1000, 1),
                )


def _ping(client: Client, _: FakeButtDialServer) -> Finding:
    seconds = client.ping()
    return True, f"connected; the round trip took {seconds * 1000:.1f} ms"


def _whatsapp(client: Client, _: FakeButtDialServer) -> Finding:
    result = client.send_message(_TO, _TEXT)
    return result.ok, f"{result.outcome}, id {result.message_sid}"


def _sms(client: Client, fake: FakeButtDialServer) -> Finding:
    result = client.send_message(_TO, _TEXT, "sms")
    streams = fake.streams_opened
    return result.ok and streams == 1, f"{result.outcome}; still {streams} stream for everything"


def _poll(client: Client, fake: FakeButtDialServer) -> Finding:
    fake.on_tool("comms_whatsapp_action", {"messageId": "SM-poll"})
    poll = client.whatsapp.send_poll(_TO, _QUESTION, _ANSWERS)
    return poll.message_id == "SM-poll", f"sent, id {poll.message_id}"


def _no_sender(client: Client, fake: FakeButtDialServer) -> Finding:
    fake.on_send(
        error="This agent has no SMS sender",
        code="NO_CHANNEL_ASSIGNED",
        channel="sms",
        remediation="Assign an SMS sender to the agent.",
    )
    result = client.send_message(_TO, _TEXT, "sms")
    told = f"{result.outcome}: {result.error}\n-> {result.remediation}"
    return result.failed and result.remediation is not None, told


def _lost_answer(client: Client, fake: FakeButtDialServer) -> Finding:
    result, delivered = _lose_answer(client, fake)
    told = f"{result.outcome}; {result.attempts} attempts, and the server delivered {delivered}"
    return result.ok and result.attempts == 2 and delivered == 1, told


def _lost_answer_without_keys(client: Client, fake: FakeButtDialServer) -> Finding:
    result, delivered = _lose_answer(client, fake)
    told = f"{result.outcome}; {result.attempts} attempt, and the server delivered {delivered}"
    return result.unknown and result.attempts == 1 and delivered == 1, told


def _lose_answer(client: Client, fake: FakeButtDialServer) -> tuple[SendResult, int]:
    """Send while the answer is lost; return the result and how many messages were delivered."""
    before = len(fake.delivered)
    fake.fault("cut", delivered=True)
    result = client.send_message(_TO, _TEXT)
    return result, len(fake.delivered) - before


def _missing_tool(client: Client, _: FakeButtDialServer) -> Finding:
    try:
        client.whatsapp.send_poll(_TO, _QUESTION, _ANSWERS)
    except ToolError as error:
        return True, f"{type(error).__name__}: {error.message}\n-> {error.remediation}"
    return False, "the poll was sent, although this server has no polls"


_SEND = f'client.send_message("{_TO}", "{_TEXT}")'
_SEND_SMS = f'client.send_message("{_TO}", ..., channel="sms")'
_SEND_POLL = f'client.whatsapp.send_poll("{_TO}", "{_QUESTION}", [...])'

_SCENES: Final[tuple[tuple[DialectName, tuple[_Plan, ...]], ...]] = (
    (
        "hosted",
        (
            _Plan(
                title="Connect",
                call="client.ping()",
                why="One stream and one handshake; every later call uses them.",
                act=_ping,
            ),
            _Plan(
                title="A WhatsApp message",
                call=_SEND,
                why="It returns when the server has answered. No event loop.",
                act=_whatsapp,
            ),
            _Plan(
                title="A text message (SMS)",
                call=_SEND_SMS,
                why="Another channel is another argument, not another connection.",
                act=_sms,
            ),
            _Plan(
                title="A WhatsApp poll",
                call=_SEND_POLL,
                why="The server's tools are methods; call_tool() reaches any other.",
                act=_poll,
            ),
            _Plan(
                title="The server says no",
                call=_SEND_SMS,
                why="A send never raises for this. It reports, and says what to do.",
                act=_no_sender,
            ),
            _Plan(
                title="The message arrives, but its answer is lost",
                call=_SEND,
                why="The connection broke after the message was taken. This server honours "
                "keys, so a second attempt with the same key is safe.",
                act=_lost_answer,
            ),
        ),
    ),
    (
        "open-source",
        (
            _Plan(
                title="A WhatsApp message",
                call=_SEND,
                why="This server wants the token in another place. The client found out.",
                act=_whatsapp,
            ),
            _Plan(
                title="A poll, which this server lacks",
                call=_SEND_POLL,
                why="All but sends raise. Every error is a ButtDialError.",
                act=_missing_tool,
            ),
            _Plan(
                title="The message arrives, but its answer is lost",
                call=_SEND,
                why="This server does not honour keys: a second attempt could send twice. So there "
                "is none, and the result says that the outcome is unknown.",
                act=_lost_answer_without_keys,
            ),
        ),
    ),
)
