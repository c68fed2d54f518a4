"""An answer whose shape no server documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from buttdial_sync.models.names import snake_case


@attrs.frozen(eq=False, repr=False)
class ToolResult(Mapping[str, Any]):
    """
    A read-only mapping over an answer without a documented shape.

    ``result["messageId"]`` and ``result["message_id"]`` are the same. The ``repr`` shows the keys,
    not the values: they may be tokens, people's numbers, or texts. An answer that is not a JSON
    object has no keys. ``json.dumps`` takes ``raw``.

    Attributes:
        raw: The answer as it was decoded: an object, a list, a text, …
        previewed: Nothing was carried out: the call asked for a preview.
    """

    raw: Any = None
    previewed: bool = attrs.field(default=False, kw_only=True)

    @property
    def text(self) -> str | None:
        """The answer where it is a text, else None."""
        return self.raw if isinstance(self.raw, str) else None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ToolResult):
            return bool((self.raw, self.previewed) == (other.raw, other.previewed))
        return isinstance(self.raw, Mapping) and Mapping.__eq__(self, other) is True

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, key: str) -> Any:
        if key in self._entries or not isinstance(key, str):
            return self._entries[key]
        wanted = snake_case(key)
        return self._entries[next((k for k in self._entries if snake_case(k) == wanted), key)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        shown = f"keys={list(self)!r}" if isinstance(self.raw, Mapping) else type(self.raw).__name__
        return f"ToolResult({shown})"

    @property
    def _entries(self) -> Mapping[str, Any]:
        return self.raw if isinstance(self.raw, Mapping) else {}
