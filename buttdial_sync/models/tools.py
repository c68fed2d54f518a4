"""A server's tools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from buttdial_sync.models.converter import MUST_FIT
from buttdial_sync.models.result import ServerResult


@attrs.frozen(kw_only=True)
class Tool(ServerResult):
    """
    A tool that the server offers.

    Attributes:
        name: Its name, as for ``call_tool``.
        description: What the server says about it.
        input_schema: The JSON schema of its arguments.
    """

    name: str
    description: str = ""
    # It decides what is sent: without it, a call would be made as if the server took any argument.
    input_schema: Mapping[str, Any] = attrs.field(
        factory=dict, repr=False, metadata={MUST_FIT: True}
    )

    @property
    def properties(self) -> Mapping[str, Any]:
        """The schemas of its arguments, by name; empty where the server says nothing."""
        properties = self.input_schema.get("properties")
        return properties if isinstance(properties, Mapping) else {}
