"""What all results have in common."""

# Without "from __future__ import annotations": classes in other modules inherit the annotation, as
# it is, and not each of them knows the name.
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Answer:
    """
    What a server answered.

    Attributes:
        raw: The answer as it came, decoded.
    """

    raw: Any = attrs.field(default=None, eq=False, repr=False)
