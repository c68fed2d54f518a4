"""The client of one ailoop server."""

from __future__ import annotations

import logging
import os
import random
import sys
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import attrs

from buttdial_sync.ailoop.answers import (
    Answer,
    Authorization,
    Prompt,
    answer_of,
    authorization_of,
)
from buttdial_sync.ailoop.connection import PENDING, AiloopConnection
from buttdial_sync.ailoop.errors import (
    AiloopConfigError,
    AiloopError,
    AiloopNotSupportedError,
    AuthorizationDeniedError,
    raised_as_ailoop_errors,
)
from buttdial_sync.ailoop.listening import Handler, Listening
from buttdial_sync.ailoop.messages import (
    PRIORITIES,
    RESPONSE_TYPES,
    Message,
    Option,
    Priority,
    Recommendation,
    ResponseType,
    message_of,
    new_message,
)
from buttdial_sync.ailoop.prompting import Prompter, Sockets
from buttdial_sync.ailoop.prompts import Question, authorization_prompt, navigation_prompt
from buttdial_sync.ailoop.questions import AnsweredQuestion, PendingQuestions
from buttdial_sync.ailoop.resuming import Resumer, ResumeReport
from buttdial_sync.ailoop.server import (
    ChannelInfo,
    ChannelList,
    PendingList,
    PendingPrompt,
    ServerInfo,
    ServerStats,
)
from buttdial_sync.ailoop.tasks import Tasks
from buttdial_sync.errors.scrubbing import masked, masked_items
from buttdial_sync.models.events import ClientEvent
from buttdial_sync.settings import check_count, variables_of
from buttdial_sync.transport.client_connection import ConnectionOptions
from buttdial_sync.transport.deadline import Clock, Deadline, check_seconds
from buttdial_sync.transport.network import NetworkOptions

logger = logging.getLogger("buttdial_sync.ailoop")

_VARIABLES = {"server_url": "AILOOP_SERVER", "channel": "AILOOP_CHANNEL", "token": "AILOOP_TOKEN"}


class AiloopClient:
    """
    A blocking client that asks a person, and waits for the answer.

    One client serves a whole process: threads share it freely, and a forked child opens connections
    of its own. Nothing is sent before the first call. Use it as a context manager or :meth:`close`
    it.

    The server shows one prompt at a time, over all channels and clients. A prompt behind others is
    not shown yet, but the time of its caller runs.

    Args:
        server_url: The server, as ``http``, ``https``, ``ws`` or ``wss``, with its base path.
        channel: The channel of calls that name none.
        token: The token; None for a server without, as ``ailoop serve`` starts it.
        timeout: Seconds that a request may take that does not wait for a person.
        connect_timeout: Seconds for each connection.
        accept_timeout: Seconds within which the server must have confirmed a message.
        max_attempts: Attempts of a request that only reads.
        insecure_hosts: Hosts to which the token may go unencrypted. This machine always may.
        ca_bundle: Path of the certificates (PEM) that the server's is checked with, a file or a
            directory. None leaves it to the environment.
        on_event: Called for each request, answer, retry and connection, in the calling thread.
        clock: A monotonic clock in seconds, for tests.
        sleep: Sleeps for some seconds between attempts, for tests.
        random_fraction: Gives numbers from 0 to 1 for the jitter, for tests.

    Attributes:
        tasks: The tasks of the channels.

    Raises:
        AiloopConfigError: An argument is missing or wrong.
    """

    def __init__(
        self,
        server_url: str = "http://localhost:8080",
        *,
        channel: str = "public",
        token: str | None = None,
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        accept_timeout: float = 3.0,
        max_attempts: int = 3,
        insecure_hosts: Collection[str] = (),
        ca_bundle: str | os.PathLike[str] | None = None,
        on_event: Callable[[ClientEvent], None] | None = None,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        token = masked(token)  # frames are shown, that of a constructor that raises too
        with raised_as_ailoop_errors():
            self._connection = AiloopConnection(
                server_url,
                channel,
                token,
                insecure_hosts,
                ConnectionOptions(
                    timeout=timeout,
                    connect_timeout=connect_timeout,
                    max_attempts=max_attempts,
                    network=NetworkOptions(ca_bundle=ca_bundle),
                    on_event=on_event,
                    clock=clock,
                    sleep=sleep,
                    random_fraction=random_fraction,
                ),
            )
            self._sockets = Sockets(self._connection, insecure_hosts)
            self._prompter = Prompter(
                connection=self._connection,
                sockets=self._sockets,
                accept_timeout=check_seconds(accept_timeout, "accept_timeout"),
            )
        self._listening: weakref.WeakValueDictionary[int, Listening] = weakref.WeakValueDictionary()
        self.tasks = Tasks(self._connection)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> AiloopClient:
        """
        Make a client from the environment: ``AILOOP_SERVER``, ``AILOOP_CHANNEL``, ``AILOOP_TOKEN``.

        Args:
            environ: Where to look; ``os.environ`` when None. Blank values count as absent.
            **overrides: Arguments of the constructor, which win over the environment.

        Raises:
            AiloopConfigError: There is no server, or a value is wrong.
        """
        overrides = masked_items(overrides)
        environ = _arguments_from_env(environ)
        return cls(**{"server_url": "", **environ, **overrides})

    def ask(
        self,
        question: str,
        choices: Sequence[str] | None = None,
        *,
        options: Sequence[Option] | None = None,
        recommendation: Recommendation | str | None = None,
        context: str | None = None,
        channel: str | None = None,
        timeout: float = 60.0,
        wait_if_skipped: bool = True,
    ) -> Answer:
        """
        Ask a person, and wait for the answer. Not safe to repeat: the person is asked again.

        An answer that is not among the choices is not taken; the person can answer again.

        Args:
            question: The question.
            choices: The answers to choose from. Without any, free text is asked for, which only
                servers up to 1.0.0 have.
            options: The choices with ids and details, instead of ``choices``.
            recommendation: The option that you recommend: its id, or with a reason.
            context: More about the question, in Markdown.
            channel: The channel; the client's own when None.
            timeout: Seconds to wait in all. Then the prompt is withdrawn.
            wait_if_skipped: Wait on after the person put it off; the server asks again. False
                returns ``"skipped"`` at once and withdraws the prompt.

        Returns:
            The answer, or why there is none; look at ``status``.

        Raises:
            AiloopConfigError: An argument is wrong.
            AiloopNotSupportedError: The server has no free text. Nothing was sent.
            NotAcceptedError: The server did not confirm the question.
            AiloopError: The server could not be reached, or refused the token.
        """
        deadline = self._deadline(timeout)
        where = self._connection.channel_or_own(channel)
        wanted = Question(question, choices, options, recommendation, context)
        prompt, frame = wanted.prompt(where, timeout, self._connection.known_info(deadline).api)
        reply = self._prompter.ask(prompt, frame, deadline, wait_if_skipped=wait_if_skipped)
        return answer_of(prompt, reply)

    def authorize(
        self,
        action: str,
        *,
        context: Any = None,
        channel: str | None = None,
        timeout: float = 300.0,
        wait_if_skipped: bool = True,
        confirm_settled: bool = False,
        raise_on_deny: bool = False,
    ) -> Authorization:
        """
        Ask a person to approve an action. Not safe to repeat: the person is asked again.

        ::

            if client.authorize("Delete 3 customers"):
                delete()

        Args:
            action: What is to be approved.
            context: More about it: anything that JSON can hold.
            channel: The channel; the client's own when None.
            timeout: Seconds to wait in all. Then the prompt is withdrawn.
            wait_if_skipped: Wait on after the person put it off; the server asks again.
            confirm_settled: After an approval, make sure that the server itself took it: another
                agent can send what looks like one. While other prompts wait, this lasts until they
                are over. Servers from 1.0.8.
            raise_on_deny: Raise instead of returning a denial.

        Returns:
            True in a condition only after an approval of this prompt.

        Raises:
            AuthorizationDeniedError: There is no approval, and ``raise_on_deny`` was given.
            AiloopConfigError: An argument is wrong.
            AiloopNotSupportedError: ``confirm_settled``, and the server is too old. Nothing was
                sent.
            NotAcceptedError: The server did not confirm the prompt.
            AiloopError: The server could not be reached, or refused the token.
        """
        deadline = self._deadline(timeout)
        where = self._connection.channel_or_own(channel)
        prompt, frame = authorization_prompt(where, action, context, timeout)
        if confirm_settled and not self._connection.known_info(deadline).supports_pending:
            raise AiloopNotSupportedError(
                "this server does not tell which prompts wait, so nothing can be confirmed",
                remediation="Servers from 1.0.8 do. Leave confirm_settled out for this one.",
            )
        reply = self._prompter.ask(prompt, frame, deadline, wait_if_skipped=wait_if_skipped)
        result = authorization_of(prompt, reply)
        if result and confirm_settled and not self._prompter.is_settled(prompt, deadline):
            result = attrs.evolve(result, approved=False, reason="unconfirmed")
            self._prompter.withdraw_soon(prompt.id, 0)
        if raise_on_deny and not result:
            error = AuthorizationDeniedError(f"not approved: {result.reason}", code=result.reason)
            error.authorization = result
            raise error
        return result

    def post_question(
        self,
        questions: PendingQuestions,
        question: str,
        choices: Sequence[str] | None = None,
        *,
        about: Any = None,
        options: Sequence[Option] | None = None,
        recommendation: Recommendation | str | None = None,
        context: str | None = None,
        channel: str | None = None,
        timeout: float = 3600.0,
    ) -> str:
        """
        Ask a person, and go on. :meth:`resume` hands the answer over, in any process.

        Not safe to repeat: the person is asked again.

        Args:
            questions: Keeps the question until its answer was handed over.
            question: The question.
            choices: The answers to choose from.
            about: Anything that JSON can hold; it comes back with the answer.
            options: The choices with ids and details, instead of ``choices``.
            recommendation: The option that you recommend.
            context: More about the question, in Markdown.
            channel: The channel; the client's own when None.
            timeout: Seconds after which there will be no answer.

        Returns:
            The message's id.

        Raises:
            NotAcceptedError: The server did not confirm it. It is not waited for.
            AiloopError: It could not be sent.
        """
        deadline = self._deadline(None)
        _check_seconds(timeout, "timeout")
        where = self._connection.channel_or_own(channel)
        wanted = Question(question, choices, options, recommendation, context)
        prompt, frame = wanted.prompt(where, timeout, self._connection.known_info(deadline).api)
        return self._post(questions, prompt, frame, about, timeout, deadline)

    def post_authorization(
        self,
        questions: PendingQuestions,
        action: str,
        *,
        about: Any = None,
        context: Any = None,
        channel: str | None = None,
        timeout: float = 3600.0,
    ) -> str:
        """
        Ask a person to approve an action, and go on; see :meth:`post_question`.

        Args:
            questions: Keeps the question until its answer was handed over.
            action: What is to be approved.
            about: Anything that JSON can hold; it comes back with the answer.
            context: More about it: anything that JSON can hold.
            channel: The channel; the client's own when None.
            timeout: Seconds after which there will be no answer.

        Returns:
            The message's id.

        Raises:
            NotAcceptedError: The server did not confirm it. It is not waited for.
            AiloopError: It could not be sent.
        """
        deadline = self._deadline(None)
        _check_seconds(timeout, "timeout")
        where = self._connection.channel_or_own(channel)
        prompt, frame = authorization_prompt(where, action, context, timeout)
        return self._post(questions, prompt, frame, about, timeout, deadline)

    def resume(
        self,
        questions: PendingQuestions,
        handler: Callable[[AnsweredQuestion], object],
        *,
        watch: bool = False,
    ) -> ResumeReport:
        """
        Hand the answers to posted questions over, each once. Safe to run in several processes.

        Answers of the web page are found later too. Those of the terminal and of Telegram are sent
        only once: they are heard while somebody runs this with ``watch``; otherwise the question is
        lost, and so it is when the server was restarted.

        Args:
            questions: The questions.
            handler: Gets each :class:`AnsweredQuestion`. If it raises, it gets it again after 30
                seconds, at most eight times. If the process dies meanwhile, after the lease.
            watch: Go on, and hear everything, until :meth:`close`. False looks once.

        Returns:
            What was done.
        """
        self._connection.check_open()
        resumer = Resumer(self._connection, self._prompter, questions, handler)
        if not watch:
            return resumer.run_once()
        with self.listen(on_answer=lambda message: resumer.hear(message.raw)):
            return resumer.run_until_closed()

    def say(
        self,
        text: str,
        priority: Priority = "normal",
        *,
        channel: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """
        Tell something. Nobody answers.

        Args:
            text: The text.
            priority: ``"low"``, ``"normal"``, ``"high"`` or ``"urgent"``.
            channel: The channel; the client's own when None.
            timeout: In seconds; the client's own when None.

        Returns:
            The message's id. The server has it; whether somebody reads it is not known.

        Raises:
            NotAcceptedError: The server did not confirm it.
            AiloopError: It could not be sent.
        """
        deadline = self._deadline(timeout)
        if priority not in PRIORITIES:
            raise AiloopConfigError(f"priority must be one of: {', '.join(PRIORITIES)}")
        frame = new_message(
            str(uuid.uuid4()),
            self._connection.channel_or_own(channel),
            {"type": "notification", "text": text, "priority": priority},
        )
        self._prompter.tell(frame, deadline)
        return str(frame["id"])

    def navigate(self, url: str, *, channel: str | None = None, timeout: float = 60.0) -> Answer:
        """
        Ask a person to open an address, and wait for the answer.

        Args:
            url: The address.
            channel: The channel; the client's own when None.
            timeout: Seconds to wait in all. Then the prompt is withdrawn.

        Returns:
            The answer; its ``text`` is ``"yes"``, ``"no"`` or what the person typed.

        Raises:
            NotAcceptedError: The server did not confirm it.
            AiloopError: It could not be sent.
        """
        deadline = self._deadline(timeout)
        prompt, frame = navigation_prompt(self._connection.channel_or_own(channel), url)
        return answer_of(prompt, self._prompter.ask(prompt, frame, deadline))

    def navigate_without_waiting(
        self, url: str, *, channel: str | None = None, timeout: float | None = None
    ) -> str:
        """
        Ask a person to open an address, and go on.

        Warning:
            The server has no time limit for it, and shows one prompt at a time: until the person
            has answered, or somebody withdraws it, it holds up every prompt of every client.

        Args:
            url: The address.
            channel: The channel; the client's own when None.
            timeout: Seconds for sending it; the client's own when None.

        Returns:
            The message's id, for :meth:`withdraw`.

        Raises:
            NotAcceptedError: The server did not confirm it. It is withdrawn, in case it was shown.
            AiloopError: It could not be sent.
        """
        deadline = self._deadline(timeout)
        prompt, frame = navigation_prompt(self._connection.channel_or_own(channel), url)
        self._prompter.tell(frame, deadline, is_prompt=True)
        return prompt.id

    def respond(
        self,
        message_id: str,
        answer: str | None = None,
        response_type: ResponseType = "text",
    ) -> Message:
        """
        Answer a prompt, as a person does in the web page.

        The server takes every response, also a late or a second one; only the first valid one for a
        prompt that is shown settles it.

        Args:
            message_id: The prompt.
            answer: The answer: an option's id, its label, or its place from 1.
            response_type: ``"text"``, ``"authorization_approved"``, ``"authorization_denied"``,
                ``"timeout"`` (ends the prompt without an answer) or ``"cancelled"`` (puts it off).

        Raises:
            MessageNotFoundError: The server has no such message.
            AiloopError: It could not be sent.
        """
        if response_type not in RESPONSE_TYPES:
            raise AiloopConfigError(f"response_type must be one of: {', '.join(RESPONSE_TYPES)}")
        return _read(self._connection.respond(_checked_id(message_id), answer, response_type))

    def withdraw(self, message_id: str) -> None:
        """
        End a prompt without an answer. It works on the prompt that is shown now.

        A prompt that waits behind another is asked later all the same.

        Raises:
            MessageNotFoundError: The server has no such message.
            AiloopError: It could not be sent.
        """
        self._connection.respond(message_id, None, "timeout", self._deadline(None))

    def pending(self, *, channel: str | None = None) -> Sequence[PendingPrompt]:
        """
        List the prompts that are shown now. Those behind them are not in it.

        Args:
            channel: Only of this channel; of all when None.

        Raises:
            AiloopNotSupportedError: The server is older than 1.0.8.
        """
        deadline = self._deadline(None)
        query = {} if channel is None else {"channel": self._connection.channel_or_own(channel)}
        if not self._connection.known_info(deadline).supports_pending:
            raise AiloopNotSupportedError("this server does not tell which prompts wait")
        return self._connection.call(
            "GET", PENDING, PendingList, deadline=deadline, query=query
        ).items

    def get_message(self, message_id: str) -> Message:
        """
        Get a message.

        Raises:
            MessageNotFoundError: The server has none with this id: it was restarted, perhaps.
        """
        return _read(self._connection.message(_checked_id(message_id)))

    def history(self, *, channel: str | None = None, limit: int = 100) -> Sequence[Message]:
        """
        Get the last messages of a channel, the oldest first.

        Answers that were given at the terminal or by Telegram are not in it.

        Args:
            channel: The channel; the client's own when None.
            limit: At most this many.
        """
        where = self._connection.channel_or_own(channel)
        with raised_as_ailoop_errors():
            check_count(limit, "limit")
        found = self._connection.history(where, limit, self._deadline(None))
        return [_read(message) for message in found]

    def channels(self) -> Sequence[ChannelInfo]:
        """List the channels that have messages."""
        return self._connection.call("GET", "/api/channels", ChannelList).channels

    def channel_stats(self, channel: str | None = None) -> ChannelInfo:
        """Get how many messages a channel has; the client's own when None."""
        where = self._connection.channel_or_own(channel)
        path = f"/api/channels/{where}/stats"
        return self._connection.call(
            "GET", path, ChannelInfo, endpoint="/api/channels/{channel}/stats"
        )

    def stats(self) -> ServerStats:
        """Get who is connected to the server."""
        return self._connection.call("GET", "/api/stats", ServerStats)

    def listen(
        self,
        handler: Handler | None = None,
        *,
        on_answer: Handler | None = None,
        channels: Collection[str] | None = None,
        replay: bool = True,
    ) -> Listening:
        """
        Hear everything that is said, in a thread that reconnects by itself. It starts at once.

        ::

            with client.listen(channels=["builds"]) as messages:
                for message in messages:
                    ...

        Args:
            handler: Called with each message, in the listener's thread. Without any handler,
                iterate over the result.
            on_answer: Called with each response to a prompt.
            channels: Only these; all when None.
            replay: Begin with what the server's history has. False begins with what is new.

        Returns:
            What listens. Stop it, or use it as a context manager; :meth:`close` stops it too. Until
            then it goes on, also if nobody keeps the client or what was returned.

        Raises:
            AiloopConfigError: A handler is a coroutine function, or a channel cannot exist.
        """
        self._connection.check_open()
        listening = Listening(
            self._connection, self._sockets.new_opener, channels=channels, replay=replay
        )
        if handler is not None:
            listening.on_message(handler)
        if on_answer is not None:
            listening.on_answer(on_answer)
        self._listening[id(listening)] = listening
        listening.start(keeps=handler is None and on_answer is None)
        return listening

    def server_info(self) -> ServerInfo:
        """Find out the server's version and what it supports, without an effect on it."""
        return self._connection.info()

    check_version_compatibility = server_info

    def close(self, timeout: float = 2.0) -> None:
        """
        End everything. Idempotent, from any thread.

        Prompts that are waited for are withdrawn, and their calls raise
        :class:`~buttdial_sync.ailoop.errors.AiloopClosedError`; so do later calls. Network faults
        raise nothing.

        Args:
            timeout: How long to wait for that, in seconds.
        """
        limit = Deadline(timeout, self._connection.clock)
        for listening in self._listeners():  # end all of them before waiting for one
            listening.end()
        if not self._connection.closed:
            self._sockets.close(limit)
            for listening in self._listeners():
                listening.stop(limit.remaining())
            self._connection.close()
        for listening in self._listeners():  # one that began meanwhile
            listening.end()

    def __enter__(self) -> AiloopClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"AiloopClient({self._connection.server_url!r}, channel={self._connection.channel!r})"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client cannot be pickled: make one in each process")

    def __del__(self) -> None:
        # A constructor that raised has left nothing.
        sockets = getattr(self, "_sockets", None)
        if sockets is None or self._connection.closed or not self._connection.used:
            return
        warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=2)
        if not sys.is_finalizing():  # then everything ends anyway
            sockets.abandon()

    def _listeners(self) -> Sequence[Listening]:
        # valuerefs() copies in one step: another thread may just add one.
        found = (reference() for reference in self._listening.valuerefs())
        return [listening for listening in found if listening is not None]

    def _deadline(self, timeout: float | None) -> Deadline:
        self._connection.check_open()
        with raised_as_ailoop_errors():
            return self._connection.deadline(timeout)

    def _post(
        self,
        questions: PendingQuestions,
        prompt: Prompt,
        frame: Mapping[str, Any],
        about: Any,
        timeout: float,
        deadline: Deadline,
    ) -> str:
        questions.add(prompt, about, seconds=timeout, sending=deadline.seconds)
        try:
            self._prompter.tell(frame, deadline, is_prompt=True)
        except AiloopError:
            _tried(questions.dismiss, prompt.id)
            raise
        _tried(questions.sent, prompt.id)
        return prompt.id


def _tried(change: Callable[[str], object], message_id: str) -> None:
    """Change a question's row if the store can: what became of the prompt is known without it."""
    try:
        change(message_id)
    except Exception:  # the store's, of any kind: a caller that got it would ask once more
        logger.exception("the row of question %s could not be changed", message_id)


def _arguments_from_env(environ: Mapping[str, str] | None) -> dict[str, str]:
    """Return the arguments that the environment has: frames are shown, and not all of it."""
    found = variables_of(environ, _VARIABLES.values())
    return {name: found[each] for name, each in _VARIABLES.items() if each in found}


def _check_seconds(value: float, name: str) -> None:
    with raised_as_ailoop_errors():
        check_seconds(value, name)


def _checked_id(message_id: str) -> str:
    try:
        return str(uuid.UUID(message_id))
    except (ValueError, AttributeError, TypeError):
        raise AiloopConfigError("message_id must be a UUID") from None


def _read(raw: Any) -> Message:
    with raised_as_ailoop_errors():
        return message_of(raw)
