"""
Draws the diagrams of the documentation, by ``python docs/diagrams/draw.py``.

Each ``.txt`` here is the source of the ``.svg`` of the same name. A line is one thing:

    title  WORDS                          what the picture shows, for those who cannot see it
    size   WIDTH HEIGHT
    group  X,Y WIDTHxHEIGHT "title"       a frame behind other things
    box    NAME X,Y WIDTHxHEIGHT KIND "line|line"
    arrow  FROM … TO ["label" X,Y]        each end is X,Y or NAME.SIDE or NAME.SIDE+OFFSET
    line   FROM … TO                      without a point, dashed
    text   X,Y KIND "line|line"

A box is ``plain``, ``ours``, ``good``, ``bad`` or ``wait``, and its first line is bold; a text is
``small``, ``left``, both (``small+left``), or a ``number``. Text between ` is a name of the code: a
test looks whether it exists. The colours are those of the theme, dark or light, where a page holds
the picture, and follow the reader's setting elsewhere.
"""

from __future__ import annotations

import math
import re
import shlex
from html import escape
from pathlib import Path

HERE = Path(__file__).parent
Point = tuple[float, float]

_LINE_HEIGHT = 17
_STYLE = """
.diagram { max-width: 100%; height: auto; color: var(--color-foreground-primary, #1f2328);
  font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.diagram text { fill: currentColor; text-anchor: middle; dominant-baseline: middle; }
.diagram text.left { text-anchor: start; }
.diagram .small { font-size: 11.5px; opacity: .85; }
.diagram .first { font-weight: 600; }
.diagram .code { font-family: ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace;
  font-size: .94em; }
.diagram .label { font-size: 11.5px; paint-order: stroke; stroke-width: 5px; stroke-linejoin: round;
  stroke: var(--color-background-primary, #fff); }
.diagram rect { stroke-width: 1.4; fill: #8b949e1f; stroke: #8b949e; }
.diagram rect.group { fill: none; stroke-dasharray: 5 4; stroke-width: 1.2; }
.diagram rect.ours { fill: #3b82f624; stroke: #3b82f6; }
.diagram rect.good { fill: #2ea04326; stroke: #2ea043; }
.diagram rect.bad { fill: #e5534b24; stroke: #e5534b; }
.diagram rect.wait { fill: #d29a2226; stroke: #d29a22; }
.diagram polyline { fill: none; stroke: #8b949e; stroke-width: 1.5; stroke-linejoin: round; }
.diagram polyline.dashed { stroke-dasharray: 4 4; stroke-width: 1.1; }
.diagram polygon { fill: #8b949e; }
.diagram circle { fill: #3b82f6; }
.diagram text.number { fill: #fff; font-size: 11px; font-weight: 600; }
@media (prefers-color-scheme: dark) {
  .diagram { color: var(--color-foreground-primary, #e6edf3); }
  .diagram .label { stroke: var(--color-background-primary, #0d1117); }
}
"""


class Drawing:
    """One picture, drawn line by line."""

    def __init__(self) -> None:
        self._words = {
            "title": self._take_title,
            "size": self._take_size,
            "group": self._draw_group,
            "box": self._draw_box,
            "text": self._draw_text,
            "line": self._draw_line,
            "arrow": self._draw_arrow,
        }
        self._title = ""
        self._size: Point = (0.0, 0.0)
        self._boxes: dict[str, tuple[Point, Point]] = {}
        self._parts: list[str] = []

    def draw(self, source: str) -> str:
        """Return the SVG of a source."""
        for line in source.splitlines():
            word, _, rest = line.partition(" ")
            if word:
                self._words[word](*([rest] if word == "title" else shlex.split(rest)))
        width, height = self._size
        extent = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" class="diagram" role="img" {extent}>',
                f"<title>{escape(self._title)}</title>",
                f"<style>{_STYLE}</style>",
                *self._parts,
                "</svg>",
                "",
            ]
        )

    def _take_title(self, words: str) -> None:
        self._title = words.strip()

    def _take_size(self, width: str, height: str) -> None:
        self._size = float(width), float(height)

    def _draw_group(self, at: str, size: str, title: str) -> None:
        x, y = _point(at)
        self._rectangle((x, y), _extent(size), "group")
        self._write(x + 12, y + 16, ["left", "small"], title)

    def _draw_box(self, name: str, at: str, size: str, kind: str, lines: str) -> None:
        (x, y), (width, height) = _point(at), _extent(size)
        self._boxes[name] = (x, y), (width, height)
        self._rectangle((x, y), (width, height), kind)
        self._stack(x + width / 2, y + height / 2, lines, first=["first"], others=["small"])

    def _draw_text(self, at: str, kind: str, lines: str) -> None:
        x, y = _point(at)
        if kind == "number":
            self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="9"/>')
        kinds = [*kind.split("+"), *([] if kind == "number" else ["label"])]
        self._stack(x, y, lines, first=kinds, others=kinds)

    def _draw_line(self, *ends: str) -> None:
        self._polyline([self._end(end) for end in ends], "dashed")

    def _draw_arrow(self, *words: str) -> None:
        ends = [word for word in words if _is_end(word)]
        label = [word for word in words if not _is_end(word)]
        label_at = ends.pop() if label else None
        path = [self._end(end) for end in ends]
        (x0, y0), (x1, y1) = path[-2:]
        angle = math.atan2(y1 - y0, x1 - x0)
        path[-1] = x1 - 6 * math.cos(angle), y1 - 6 * math.sin(angle)
        self._polyline(path, "arrow")
        head = [
            (x1 + length * math.cos(angle + side), y1 + length * math.sin(angle + side))
            for length, side in ((0, 0), (10, 2.75), (10, -2.75))
        ]
        self._parts.append(f'<polygon points="{_joined(head)}"/>')
        if label_at:
            self._stack(*_point(label_at), label[0], first=["label"], others=["label"])

    def _end(self, end: str) -> Point:
        if not (found := re.fullmatch(r"(\w+)\.(left|right|top|bottom)([+-]\d+)?", end)):
            return _point(end)
        (x, y), (width, height) = self._boxes[found[1]]
        offset = float(found[3] or 0)
        if found[2] in {"left", "right"}:
            return x + (width if found[2] == "right" else 0), y + height / 2 + offset
        return x + width / 2 + offset, y + (height if found[2] == "bottom" else 0)

    def _rectangle(self, at: Point, size: Point, kind: str) -> None:
        (x, y), (width, height) = at, size
        extent = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self._parts.append(f'<rect class="{kind}" {extent} rx="7"/>')

    def _polyline(self, path: list[Point], kind: str) -> None:
        self._parts.append(f'<polyline class="{kind}" points="{_joined(path)}"/>')

    def _stack(self, x: float, y: float, text: str, *, first: list[str], others: list[str]) -> None:
        lines = text.split("|")
        top = y - (len(lines) - 1) * _LINE_HEIGHT / 2
        for number, line in enumerate(lines):
            self._write(x, top + number * _LINE_HEIGHT, others if number else first, line)

    def _write(self, x: float, y: float, kinds: list[str], line: str) -> None:
        marked = re.sub(r"`([^`]+)`", r'<tspan class="code">\1</tspan>', escape(line, quote=False))
        self._parts.append(f'<text class="{" ".join(kinds)}" x="{x:g}" y="{y:g}">{marked}</text>')


def _is_end(word: str) -> bool:
    return re.fullmatch(r"[\d.]+,[\d.]+|\w+\.(left|right|top|bottom)([+-]\d+)?", word) is not None


def _point(text: str) -> Point:
    x, _, y = text.partition(",")
    return float(x), float(y)


def _extent(text: str) -> Point:
    width, _, height = text.partition("x")
    return float(width), float(height)


def _joined(path: list[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in path)


if __name__ == "__main__":
    for source in sorted(HERE.glob("*.txt")):
        source.with_suffix(".svg").write_text(Drawing().draw(source.read_text("utf-8")), "utf-8")
