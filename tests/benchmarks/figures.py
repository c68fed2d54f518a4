"""Figures, their targets, and the table."""

from __future__ import annotations

from collections.abc import Sequence

import attrs


@attrs.frozen(kw_only=True)
class Figure:
    """
    One row of the table.

    Attributes:
        what: What was measured.
        server: Against which server, or empty.
        ours: What this library took.
        peer: What the peer took, or None where there is none.
        unit: Of both.
        result: What is held against the target; a ratio wherever there is a peer.
        target: The bound.
        at_least: Whether ``target`` is the least instead of the most.
    """

    what: str
    server: str = ""
    ours: float
    peer: float | None = None
    unit: str = ""
    result: float
    target: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the result is on the right side of the target."""
        return self.result >= self.target if self.at_least else self.result <= self.target

    def cells(self) -> tuple[str, ...]:
        """Return the row's texts."""
        peer = "" if self.peer is None else f"{_short(self.peer)} {self.unit}".strip()
        return (
            self.what,
            self.server,
            f"{_short(self.ours)} {self.unit}".strip(),
            peer,
            _short(self.result),
            f"{'>=' if self.at_least else '<='} {_short(self.target)}",
            "yes" if self.met else "NO",
        )


def times_better(
    what: str, ours: float, peer: float, target: float, *, unit: str, server: str = ""
) -> Figure:
    """Return a figure of which less is better: how many times ours is better than the peer's."""
    return Figure(
        what=what,
        server=server,
        ours=ours,
        peer=peer,
        unit=unit,
        result=peer / ours,
        target=target,
        at_least=True,
    )


def share(
    what: str, ours: float, peer: float, target: float, *, unit: str, server: str = ""
) -> Figure:
    """Return a figure of which less is better: ours as a share of the peer's."""
    return Figure(
        what=what, server=server, ours=ours, peer=peer, unit=unit, result=ours / peer, target=target
    )


def amount(
    what: str,
    ours: float,
    target: float,
    *,
    peer: float | None = None,
    unit: str = "",
    server: str = "",
) -> Figure:
    """Return a figure that is no ratio."""
    return Figure(
        what=what, server=server, ours=ours, peer=peer, unit=unit, result=ours, target=target
    )


_HEAD = ("figure", "server", "buttdial_sync", "peer", "result", "target", "met")


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a table that reStructuredText understands too."""
    rows = [_HEAD, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        # A line of a simple table may not begin with an empty cell, nor be cut short by one.
        "  ".join((text or "\\").ljust(width) for text, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join([rule, lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:]), rule])


def _short(number: float) -> str:
    if number == int(number):
        return str(int(number))
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"
