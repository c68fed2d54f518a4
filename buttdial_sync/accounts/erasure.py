"""The end of a workspace."""

from __future__ import annotations

from buttdial_sync.accounts.subject import Subject
from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import Endpoint
from buttdial_sync.models.accounts import ErasureRequest
from buttdial_sync.models.tool_result import ToolResult

_START = Endpoint("POST", "/api/orgs/me/erasure/start", ErasureRequest)
_CONFIRM = Endpoint("POST", "/api/orgs/me/erasure/confirm", ToolResult, auth="none")


class Erasure(Subject):
    """Erases a workspace with all its data."""

    @checked
    def start_erasure(self) -> ErasureRequest:
        """
        Request the workspace's erasure. Its owner gets a mail to confirm it.

        Calling it twice sends two mails.

        Returns:
            The request's id, and until when it can be confirmed.

        Raises:
            RateLimitError: Too many requests.
        """
        return self._call(_START)

    @checked
    def confirm_erasure(self, confirmation_token: str, *, force: bool = False) -> ToolResult:
        """
        Erase the workspace with all its data, which cannot be undone.

        Scope: none, the token from the mail is enough; no other is sent. Calling it twice fails:
        the token is good once.

        Args:
            confirmation_token: From the mail.
            force: Erase it even if it still has agents and numbers.

        Raises:
            ConflictError: It still has agents; ``force`` erases them too.
            NotFoundError: The request does not exist.
        """
        return self._call(_CONFIRM, confirmation_token=confirmation_token, force=force)
