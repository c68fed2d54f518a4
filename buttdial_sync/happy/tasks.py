"""Tasks: a prompt, the turn that answers it, and how that ended."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

import attrs

from buttdial_sync.happy.errors import (
    OUTAGES,
    HappyError,
    HappyTimeoutError,
    RequestNotPending,
    RpcTransportError,
    SessionOfflineError,
    about,
)
from buttdial_sync.happy.following import FollowedTurn
from buttdial_sync.happy.machines import Machines
from buttdial_sync.happy.messaging import Messaging
from buttdial_sync.happy.models import Agent, PermissionMode, PermissionRequest
from buttdial_sync.happy.permissions import Permissions
from buttdial_sync.happy.records import NEWEST
from buttdial_sync.happy.results import Approval, Denial, TaskResult
from buttdial_sync.happy.turns import Standing, TurnTracker, standing_of
from buttdial_sync.happy.updates import PermissionRequested, Update, update_of
from buttdial_sync.happy.watching import SessionWatch
from buttdial_sync.transport.deadline import Deadline

logger = logging.getLogger("buttdial_sync.happy")

_LOOKED_BACK = 2_000
_UNFINISHED = frozenset({"timed_out", "waiting_for_permission"})

OnPermission = Callable[[PermissionRequest], "Approval | Denial | bool | None"]
OnUpdate = Callable[[Update], object]


@attrs.frozen(kw_only=True)
class _Hooks:
    on_permission: OnPermission | None = None
    on_update: OnUpdate | None = None


class Tasks(Machines, Messaging, Permissions):
    """The calls of :class:`HappyClient` that wait for an agent."""

    def run_task(
        self,
        machine_id: str,
        directory: str,
        prompt: str,
        agent: Agent = "claude",
        timeout_seconds: float = 600.0,
        *,
        create_dir: bool = False,
        name: str | None = None,
        permission_mode: PermissionMode = "yolo",
        on_permission: OnPermission | None = None,
        on_update: OnUpdate | None = None,
        on_session: Callable[[str], object] | None = None,
        stop: bool = True,
        **message_options: Any,
    ) -> TaskResult:
        """
        Start an agent, give it a prompt, wait until it is done, and stop it.

        A session whose turn is not finished (``"timed_out"``, ``"waiting_for_permission"``) is
        left running, so that you or a person can go on with it.

        Args:
            machine_id: The machine.
            directory: Where the agent works.
            prompt: What to do.
            agent: Which agent.
            timeout_seconds: For the turn, in seconds. The time in ``on_permission`` is not counted.
            create_dir: Create the directory if it does not exist.
            name: The title that the apps show.
            permission_mode: What the agent may do without being asked. ``AskUserQuestion`` and
                plans are asked about in every mode.
            on_permission: Called with each request, in the calling thread. It returns an
                :class:`~.results.Approval`, a :class:`~.results.Denial`, True, False, or None for
                "let somebody else answer". It may take its time.
            on_update: Called with each update of the session, in the calling thread.
            on_session: Called with the session's id as soon as there is one.
            stop: Stop the session when its turn is over.
            **message_options: More options of :meth:`send_message`, such as ``model``.

        Returns:
            What the agent wrote and did, and how it ended.

        Raises:
            MachineOfflineError: The machine is not connected.
            SpawnError: The daemon refused.
            SpawnOutcomeUnknownError: The machine was slow; see :meth:`find_spawned`.
            HappyError: Anything else. ``session_id`` names the session, once there is one.
        """
        session_id = self.spawn_session(machine_id, directory, agent, create_dir, name)
        if on_session is not None:
            on_session(session_id)
        result = self.run_prompt(
            session_id,
            prompt,
            timeout_seconds,
            permission_mode=permission_mode,
            on_permission=on_permission,
            on_update=on_update,
            **message_options,
        )
        if not stop or result.status in {*_UNFINISHED, "archived"}:
            return result
        try:
            self.stop_session(session_id, machine_id=machine_id)
        except HappyError as error:  # what the agent has done is worth more
            logger.warning("session %s was not stopped: %s", session_id, error.message)
            return attrs.evolve(result, stop_error=error.as_kind(type(error)))
        return result

    def run_prompt(
        self,
        session_id: str,
        prompt: str,
        timeout_seconds: float = 600.0,
        *,
        permission_mode: PermissionMode | None = "yolo",
        on_permission: OnPermission | None = None,
        on_update: OnUpdate | None = None,
        **message_options: Any,
    ) -> TaskResult:
        """
        Give a running session a prompt, and wait until the turn that answers it is over.

        Args:
            session_id: The session.
            prompt: What to do.
            timeout_seconds: For the turn, in seconds. The time in ``on_permission`` is not counted.
            permission_mode: What the agent may do without being asked.
            on_permission: As for :meth:`run_task`.
            on_update: As for :meth:`run_task`.
            **message_options: More options of :meth:`send_message`, such as ``model``.

        Returns:
            What the agent wrote and did, and how it ended.

        Raises:
            MessageDeliveryError: The prompt was not stored.
            HappyError: Anything else.
        """
        deadline = self._connection.deadline(timeout_seconds)
        hooks = _Hooks(on_permission=on_permission, on_update=on_update)
        seconds = min(self._connection.timeout, deadline.seconds)
        message_options = {"timeout": seconds, **message_options}
        sent = self.send_message(session_id, prompt, permission_mode, **message_options)
        return self._turn_after(session_id, sent.seq, deadline, hooks)

    def wait_for_turn_completion(
        self,
        session_id: str,
        timeout_seconds: float = 300.0,
        *,
        on_permission: OnPermission | None = None,
        on_update: OnUpdate | None = None,
    ) -> TaskResult:
        """
        Wait until the turn is over that answers the last message this client has sent.

        If it has not sent any to this session, then for the turn that runs now, or that a message
        of somebody else waits for. A turn that is over already is told at once.

        Args:
            session_id: The session.
            timeout_seconds: In seconds. The time in ``on_permission`` is not counted.
            on_permission: As for :meth:`run_task`.
            on_update: As for :meth:`run_task`.

        Returns:
            What the agent wrote and did, and how it ended.

        Raises:
            TimeoutError: The time has passed; the message names the permissions that are open.
            SessionNotFound: The account has no such session.
            HappyError: Anything else.
        """
        deadline = self._connection.deadline(timeout_seconds)
        hooks = _Hooks(on_permission=on_permission, on_update=on_update)
        sent_seq = self._last_sent.get(session_id)
        if sent_seq is None:
            standing = self._standing(session_id, NEWEST, deadline)
            result = self._turn_now(session_id, standing, deadline, hooks)
        else:
            result = self._turn_after(session_id, sent_seq, deadline, hooks)
        return _finished(result, timeout_seconds)

    def wait_for_idle(self, session_id: str, timeout_seconds: float = 300.0) -> None:
        """
        Wait until the agent does nothing, and nothing waits for it. It may be so already.

        Args:
            session_id: The session.
            timeout_seconds: In seconds.

        Raises:
            TimeoutError: The time has passed; the message names the permissions that are open.
            SessionNotFound: The account has no such session.
            HappyError: Anything else.
        """
        deadline = self._connection.deadline(timeout_seconds)
        while True:
            standing = self._standing(session_id, NEWEST, deadline)
            if standing.running is None and standing.asked_seq is None:
                return
            result = self._turn_now(session_id, standing, deadline, _Hooks())
            if _finished(result, timeout_seconds).status in {"undetermined", "archived"}:
                return

    def _standing(self, session_id: str, below: int, deadline: Deadline) -> Standing:
        """
        Find out what a session is doing, from its messages below a number.

        While the server cannot be reached, it looks again.
        """
        while True:
            try:
                messages = self._newest_first(session_id, below, 100, deadline)
                return standing_of(map(update_of, itertools.islice(messages, _LOOKED_BACK)))
            except OUTAGES as error:
                if not deadline.remaining():
                    raise
                logger.warning("session %s: %s; looking again later", session_id, error.message)
            self._connection.sleep(min(self._poll_interval, deadline.remaining()))

    def _turn_after(
        self, session_id: str, seq: int, deadline: Deadline, hooks: _Hooks
    ) -> TaskResult:
        tracker = TurnTracker(self._standing(session_id, seq, deadline).running)
        return self._follow_turn(session_id, seq, tracker, deadline, hooks)

    def _turn_now(
        self, session_id: str, standing: Standing, deadline: Deadline, hooks: _Hooks
    ) -> TaskResult:
        if standing.asked_seq is not None:
            tracker = TurnTracker(standing.running)
            return self._follow_turn(session_id, standing.asked_seq, tracker, deadline, hooks)
        if standing.running is not None:
            tracker = TurnTracker(turn=standing.running)
            return self._follow_turn(session_id, standing.newest_seq, tracker, deadline, hooks)
        return TaskResult(session_id=session_id, status=standing.last_end or "undetermined")

    def _follow_turn(
        self, session_id: str, seq: int, tracker: TurnTracker, deadline: Deadline, hooks: _Hooks
    ) -> TaskResult:
        with self._watch(session_id, seq) as watch:
            turn = FollowedTurn(tracker, watch, self._connection.clock)
            while True:
                for update in watch.poll_patiently(deadline):
                    turn.see(update)
                    if hooks.on_update is not None:
                        hooks.on_update(update)
                    if isinstance(update, PermissionRequested) and hooks.on_permission is not None:
                        deadline = self._ask(watch, update.request, hooks.on_permission, deadline)
                status = turn.status(self._settle_seconds)
                if status is None and not deadline.remaining():
                    status = "waiting_for_permission" if turn.requests else "timed_out"
                if status is not None:
                    return TaskResult(
                        session_id=session_id,
                        status=status,
                        updates=[each for each in turn.updates if tracker.is_of_turn(each)],
                        requests=turn.requests,
                    )
                if not watch.has_unread:
                    watch.wait(deadline, turn.at_most(self._settle_seconds))

    def _ask(
        self,
        watch: SessionWatch,
        request: PermissionRequest,
        on_permission: OnPermission,
        deadline: Deadline,
    ) -> Deadline:
        """Have the host answer a request; return the turn's deadline without the time it took."""
        left = deadline.remaining()
        answer = on_permission(request)
        deadline = Deadline(left, self._connection.clock)
        if isinstance(answer, bool):
            answer = Approval() if answer else Denial()
        while answer is not None and not self._was_answered(watch, request, answer):
            if not deadline.remaining():
                break
            self._connection.sleep(self._poll_interval)
        return deadline

    def _was_answered(
        self, watch: SessionWatch, request: PermissionRequest, answer: Approval | Denial
    ) -> bool:
        """Answer a request; return False if server or agent cannot be reached now."""
        deadline = self._connection.deadline()
        try:
            watch.look_again()
            watch.poll_and_keep(deadline)
            self._answer(watch, request.id, answer, deadline)
        except (RequestNotPending, SessionOfflineError) as error:
            # A person was faster in the app, or the agent is gone. The turn tells what follows.
            logger.info("%s", error.message)
        except (*OUTAGES, RpcTransportError) as error:
            logger.warning(
                "session %s: %s; answering again later", request.session_id, error.message
            )
            return False
        return True


def _finished(result: TaskResult, seconds: float) -> TaskResult:
    if result.status not in _UNFINISHED:
        return result
    open_requests = ", ".join(request.tool for request in result.requests)
    waits = f"; the agent waits for permission: {open_requests}" if open_requests else ""
    raise about(
        HappyTimeoutError(f"the turn is not over after {seconds:g} s{waits}"), result.session_id
    )
