"""The workspace itself and the people who belong to it."""

from __future__ import annotations

from buttdial_sync.accounts.subject import Subject
from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import Endpoint
from buttdial_sync.models.accounts import Account, Memberships
from buttdial_sync.models.tool_result import ToolResult

_ACCOUNT = Endpoint("GET", "/api/orgs/me", Account, reads_only=True)
_MEMBERSHIPS = Endpoint("GET", "/api/users/me/memberships", Memberships, reads_only=True)
_LIST = Endpoint("GET", "/api/orgs/{org_id}/members", ToolResult, reads_only=True)
_ADD = Endpoint("POST", "/api/orgs/{org_id}/members", ToolResult)
_REMOVE = Endpoint("DELETE", "/api/orgs/{org_id}/members/{email}", ToolResult)


class Members(Subject):
    """The workspace's account and its members."""

    @checked
    def get_account(self) -> Account:
        """
        Return the workspace's account.

        Returns:
            Its name, owner, mode and status.
        """
        return self._call(_ACCOUNT)

    @checked
    def list_my_memberships(self) -> Memberships:
        """
        List the workspaces that the token's user belongs to.

        Returns:
            The user's address and workspaces.
        """
        return self._call(_MEMBERSHIPS)

    @checked
    def list_org_members(self, org_id: str) -> ToolResult:
        """
        List the members of a workspace.

        Args:
            org_id: The workspace.
        """
        return self._call(_LIST, org_id=org_id)

    @checked
    def add_org_member(
        self, org_id: str, email: str, *, role: str | None = None, reason: str | None = None
    ) -> ToolResult:
        """
        Add a member to a workspace.

        Calling it twice fails the second time.

        Args:
            org_id: The workspace.
            email: The person's address.
            role: The role, as the server calls it.
            reason: For the server's log.

        Raises:
            ConflictError: The person is a member already.
        """
        return self._call(_ADD, org_id=org_id, email=email, role=role, reason=reason)

    @checked
    def remove_org_member(
        self, org_id: str, email: str, *, reason: str | None = None
    ) -> ToolResult:
        """
        Remove a member from a workspace.

        Calling it twice fails the second time.

        Args:
            org_id: The workspace.
            email: The person's address.
            reason: For the server's log.

        Raises:
            NotFoundError: The person is not a member.
        """
        return self._call(_REMOVE, org_id=org_id, email=email, reason=reason)
