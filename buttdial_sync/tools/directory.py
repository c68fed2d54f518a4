"""Other agents, contacts, groups and numbers."""

from __future__ import annotations

from buttdial_sync.calls.arguments import checked
from buttdial_sync.calls.operation import ToolOperation
from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.family import Family

_FIND_AGENT = ToolOperation(
    "comms_find_agent",
    ToolResult,
    reads_only=True,
    defaults={"includeSelf": True, "includeDraft": True},
)
_MESSAGE_AGENT = ToolOperation("comms_message_agent", ToolResult)
_GET_CONTACT_PROFILE = ToolOperation("comms_get_contact_profile", ToolResult, reads_only=True)
_GET_GROUP_MEMBERS = ToolOperation("comms_get_group_members", ToolResult, reads_only=True)
_VALIDATE_NUMBER = ToolOperation("comms_validate_number", ToolResult, reads_only=True)


class Directory(Family):
    """
    Whom an agent can reach, as ``client.directory``. Only the hosted server has it.

    Safe to share between threads.

    Scope: agent.

    Returns:
        The server's answer, unless a method says more.

    Raises:
        NotSupportedError: This server does not support the call or an argument. Nothing was done.
        OutcomeUnknownError: The call may have been carried out; its answer was lost.
        ButtDialError: The server refused the call, or could not be reached.
    """

    @checked
    def find_agents(
        self, *, query: str | None = None, include_self: bool = True, include_draft: bool = True
    ) -> ToolResult:
        """
        Find agents of the same workspace.

        Args:
            query: Part of a name; all when None.
            include_self: Whether this agent may be among them.
            include_draft: Whether agents that are not live yet may be.
        """
        return self._call(
            _FIND_AGENT, query=query, include_self=include_self, include_draft=include_draft
        )

    @checked
    def message_agent(self, to_agent: str, body: str) -> ToolResult:
        """
        Send a message to another agent.

        Calling it twice sends two messages.

        Args:
            to_agent: The other agent's id or name.
            body: The text.
        """
        return self._call(_MESSAGE_AGENT, to_agent=to_agent, body=body)

    @checked
    def contact_profile(self, contact: str) -> ToolResult:
        """
        Return what is known about a contact.

        Args:
            contact: The contact's E.164 number or address.
        """
        return self._call(_GET_CONTACT_PROFILE, contact=contact)

    @checked
    def group_members(self, group_id: str) -> ToolResult:
        """
        Return the members of a group.

        Args:
            group_id: The group's id.
        """
        return self._call(_GET_GROUP_MEMBERS, group_id=group_id)

    @checked
    def validate_number(self, phone_number: str) -> ToolResult:
        """
        Find out whether a number exists, and of what kind it is.

        Args:
            phone_number: The number in E.164 form.
        """
        return self._call(_VALIDATE_NUMBER, phone_number=phone_number)
