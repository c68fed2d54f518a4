"""A person or a rule in the loop: what the agent asks, and the answers to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from buttdial_sync.happy.errors import (
    HappyConfigError,
    HappyError,
    RequestNotPending,
    RpcOutcomeUnknownError,
    about,
)
from buttdial_sync.happy.family import Family
from buttdial_sync.happy.models import PermissionMode, PermissionRequest, Session
from buttdial_sync.happy.results import Approval, Denial
from buttdial_sync.happy.watching import SessionWatch
from buttdial_sync.transport.deadline import Deadline

# These take a decision instead of a mode.
_DECIDERS = frozenset({"codex", "gemini"})
_CLAUDES_OWN = ("allow_tools", "mode", "updated_input")


class Permissions(Family):
    """The calls of :class:`HappyClient` about what an agent may do."""

    def pending_requests(self, session_id: str) -> list[PermissionRequest]:
        """
        Return the permissions that the agent waits for, the oldest first.

        Raises:
            SessionNotFound: The account has no such session.
            HappyError: The server refused it, or could not be reached.
        """
        record = self._records.session(session_id, self._connection.deadline())
        self._records.session_cipher(session_id, self._connection.deadline())
        return self._records.read_session(record).pending_requests

    def approve(
        self,
        session_id: str,
        request_id: str,
        *,
        mode: PermissionMode | None = None,
        allow_tools: Sequence[str] | None = None,
        updated_input: Mapping[str, Any] | None = None,
        for_session: bool = False,
        timeout: float | None = None,
    ) -> PermissionRequest:
        """
        Allow what the agent asks. When this returns, the agent has taken the answer.

        Args:
            session_id: The session.
            request_id: The request.
            mode: Claude: the permission mode of the session from now on.
            allow_tools: Claude: not to be asked for any more in this session.
            updated_input: Claude: other arguments for the tool.
            for_session: Codex and Gemini: not only this once.
            timeout: In seconds; the client's when None.

        Returns:
            The request with its status.

        Raises:
            RequestNotPending: Somebody else was faster, or the agent has withdrawn it.
            SessionOfflineError: The session's process is not connected.
            RpcOutcomeUnknownError: The agent did not confirm it. Calling again does no harm.
            HappyError: Anything else.
        """
        answer = Approval(
            mode=mode, allow_tools=allow_tools, updated_input=updated_input, for_session=for_session
        )
        return self._answer_alone(session_id, request_id, answer, timeout)

    def deny(
        self,
        session_id: str,
        request_id: str,
        *,
        reason: str | None = None,
        mode: PermissionMode | None = None,
        abort: bool = False,
        timeout: float | None = None,
    ) -> PermissionRequest:
        """
        Forbid what the agent asks. When this returns, the agent has taken the answer.

        Args:
            session_id: The session.
            request_id: The request.
            reason: Claude: why, for the agent.
            mode: Claude: the permission mode of the session from now on.
            abort: Codex and Gemini: end the turn too.
            timeout: In seconds; the client's when None.

        Returns:
            The request with its status.

        Raises:
            HappyError: As for :meth:`approve`.
        """
        answer = Denial(reason=reason, mode=mode, abort=abort)
        return self._answer_alone(session_id, request_id, answer, timeout)

    def abort_turn(self, session_id: str, *, timeout: float | None = None) -> None:
        """
        End what the agent is doing. In a session at a terminal it also takes the control over.

        Args:
            session_id: The session.
            timeout: In seconds; the client's when None.

        Raises:
            SessionOfflineError: The session's process is not connected.
            RpcOutcomeUnknownError: No answer came. Calling again does no harm.
            HappyError: Anything else.
        """
        self._rpc.session(session_id, "abort", {}, self._connection.deadline(timeout))

    def _answer_alone(
        self, session_id: str, request_id: str, answer: Approval | Denial, timeout: float | None
    ) -> PermissionRequest:
        deadline = self._connection.deadline(timeout)
        with self._watch(session_id, None) as watch:
            watch.poll_and_keep(deadline)
            return self._answer(watch, request_id, answer, deadline)

    def _answer(
        self, watch: SessionWatch, request_id: str, answer: Approval | Denial, deadline: Deadline
    ) -> PermissionRequest:
        """Answer, and wait until the state shows it: late answers are ignored in silence."""
        session = watch.known_session
        if not _is_pending(session, request_id):
            raise _not_pending(session, request_id)
        params = {"id": request_id, **_form_of(answer, session.agent)}
        is_taken = self._was_taken(session.id, params, deadline)
        try:
            while not is_taken and _is_pending(watch.known_session, request_id):
                # Nobody knows whether it arrived. The agent takes only one answer.
                seconds = min(self._poll_interval, deadline.remaining())
                self._connection.sleep(seconds)
                watch.look_again()
                watch.poll_and_keep(deadline)
                if _is_pending(watch.known_session, request_id):
                    is_taken = self._was_taken(session.id, params, deadline)
            self._wait_until_taken(watch, request_id, deadline)
        except HappyError as error:
            # Whatever it says of itself: the agent may have the answer.
            raise error.as_kind(
                RpcOutcomeUnknownError, outcome="unknown", session_id=session.id
            ) from None
        answered = _find(watch.known_session.answered_requests, request_id)
        wanted = "approved" if isinstance(answer, Approval) else "denied"
        if answered is None or answered.status != wanted:
            raise _not_pending(watch.known_session, request_id)
        return answered

    def _wait_until_taken(self, watch: SessionWatch, request_id: str, deadline: Deadline) -> None:
        while _is_pending(watch.known_session, request_id):
            if not deadline.remaining():
                raise RpcOutcomeUnknownError(
                    f"the agent did not confirm the answer to {request_id}"
                )
            watch.wait(deadline)
            watch.poll_and_keep(deadline)

    def _was_taken(self, session_id: str, params: Mapping[str, Any], deadline: Deadline) -> bool:
        """Send an answer once; return False if nobody knows whether it arrived."""
        try:
            self._rpc.session(session_id, "permission", params, deadline)
        except RpcOutcomeUnknownError:
            if not deadline.remaining():
                raise
            return False
        return True


def _form_of(answer: Approval | Denial, agent: str | None) -> dict[str, Any]:
    """Write an answer as the agent reads it."""
    approved = isinstance(answer, Approval)
    if agent in _DECIDERS:
        return {"approved": approved, "decision": _decision(answer)}
    if isinstance(answer, Approval):
        if answer.for_session:
            raise HappyConfigError("for_session is for Codex and Gemini; Claude has allow_tools")
        options = {
            "mode": answer.mode,
            "allowTools": answer.allow_tools and list(answer.allow_tools),
            "updatedInput": answer.updated_input,
        }
    else:
        if answer.abort:
            raise HappyConfigError("abort is for Codex and Gemini; Claude has abort_turn()")
        options = {"mode": answer.mode, "reason": answer.reason}
    return {
        "approved": approved,
        **{key: value for key, value in options.items() if value is not None},
    }


def _decision(answer: Approval | Denial) -> str:
    given = [name for name in _CLAUDES_OWN if getattr(answer, name, None) is not None]
    if given:
        raise HappyConfigError(f"this agent does not take {', '.join(given)}")
    if isinstance(answer, Approval):
        return "approved_for_session" if answer.for_session else "approved"
    return "abort" if answer.abort else "denied"


def _find(requests: Sequence[PermissionRequest], request_id: str) -> PermissionRequest | None:
    return next((each for each in requests if each.id == request_id), None)


def _is_pending(session: Session, request_id: str) -> bool:
    return _find(session.pending_requests, request_id) is not None


def _not_pending(session: Session, request_id: str) -> RequestNotPending:
    answered = _find(session.answered_requests, request_id)
    what = f"was {answered.status} already" if answered else "is not known to the agent"
    error = RequestNotPending(f"request {request_id} {what}")
    error.status = answered.status if answered else None
    return about(error, session.id)
