"""Other agents, contacts, groups and numbers."""

from __future__ import annotations

from buttdial_sync.models.tool_result import ToolResult
from buttdial_sync.tools.arguments import checked
from buttdial_sync.tools.family import Family


class Directory(Family):
    """
    Whom an agent can reach, as ``client.directory``. Only the hosted server has it.

    Safe to share between threads.
    """

    @checked
    def find_agents(
        self, *, query: str | None = None, include_self: bool = True, include_draft: bool = True
    ) -> ToolResult:
        """
        Find agents of the same organization.

        Scope: agent. Calling it twice is safe.

        Args:
            query: Part of a name; all when None.
            include_self: Whether this agent may be among them.
            include_draft: Whether agents that are not live yet may be.

        Returns:
            The server's answer.

        Raises:
            ToolNotAvailable: This server has no such tool.
            ButtDialError: The server said no, or could not be reached.
        """
        return self._ask(
            "comms_find_agent",
            ToolResult,
            query=query,
            include_self=include_self,
            include_draft=include_draft,
        )

    @checked
    def message_agent(self, to_agent: str, body: str) -> ToolResult:
        """
        Send a message to another agent.

        Scope: agent. Calling it twice sends two messages.

        Args:
            to_agent: The other agent's id or name.
            body: The text.

        Returns:
            The server's answer.

        Raises:
            ToolNotAvailable: This server has no such tool.
            OutcomeUnknownError: It may have been carried out; the answer was lost.
        """
        return self._call("comms_message_agent", ToolResult, to_agent=to_agent, body=body)

    @checked
    def contact_profile(self, contact: str) -> ToolResult:
        """
        Return what is known about a contact.

        Scope: agent. Calling it twice is safe.

        Args:
            contact: The contact's E.164 number or address.

        Returns:
            The server's answer.

        Raises:
            ToolNotAvailable: This server has no such tool.
            ButtDialError: The server said no, or could not be reached.
        """
        return self._ask("comms_get_contact_profile", ToolResult, contact=contact)

    @checked
    def group_members(self, group_id: str) -> ToolResult:
        """
        Return who is in a group.

        Scope: agent. Calling it twice is safe.

        Args:
            group_id: The group's id.

        Returns:
            The server's answer.

        Raises:
            ToolNotAvailable: This server has no such tool.
            ButtDialError: The server said no, or could not be reached.
        """
        return self._ask("comms_get_group_members", ToolResult, group_id=group_id)

    @checked
    def validate_number(self, phone_number: str) -> ToolResult:
        """
        Find out whether a number exists, and of what kind it is.

        Scope: agent. Calling it twice is safe.

        Args:
            phone_number: The number in E.164 form.

        Returns:
            The server's answer.

        Raises:
            ToolNotAvailable: This server has no such tool.
            ButtDialError: The server said no, or could not be reached.
        """
        return self._ask("comms_validate_number", ToolResult, phone_number=phone_number)
