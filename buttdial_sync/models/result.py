"""What all results have in common, and fields that servers call differently."""

# Without "from __future__ import annotations": classes in other modules inherit the annotation, as
# it is, and not each of them knows the name.
from collections.abc import Mapping
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class ServerResult:
    """
    What a server answered.

    Attributes:
        raw: The answer as it came, decoded.
    """

    raw: Any = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class ReceivedObject:
    """
    A JSON object that a neighbour's server sent.

    Attributes:
        raw: The object as it came, decoded.
    """

    raw: Mapping[str, Any] = attrs.field(factory=dict, eq=False, repr=False)


def named(*names: str, **options: Any) -> Any:
    """
    Return an optional field that servers call differently: the first name that is there counts.

    Args:
        *names: On the wire; ``"a.b"`` is the ``b`` of the object ``a``.
        **options: Of ``attrs.field``.
    """
    return attrs.field(default=None, metadata={"names": names}, **options)
