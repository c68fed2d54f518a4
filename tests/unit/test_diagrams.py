"""The diagrams of the documentation are drawn from their sources, and say what the code says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree as ET

import pytest

from buttdial_sync.errors import Outcome
from buttdial_sync.inbound.inbox import INBOX_STATUSES
from buttdial_sync.models.failed import FAILED_STATUSES
from tests.code_names import exists

DIAGRAMS = Path(__file__).parents[2] / "docs" / "diagrams"
SOURCES = sorted(DIAGRAMS.glob("*.txt"))
BOX = re.compile(r'^box \w+ \S+ \S+ \w+ "(\w+)[,|"]', re.MULTILINE)


Drawing: Any = runpy.run_path(str(DIAGRAMS / "draw.py"))["Drawing"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_picture_is_that_of_its_source(source: Path) -> None:
    """Whoever changes a source runs docs/diagrams/draw.py."""
    drawn = source.with_suffix(".svg").read_text("utf-8")
    assert drawn == Drawing().draw(source.read_text("utf-8"))
    assert ET.fromstring(drawn).findtext("{http://www.w3.org/2000/svg}title")  # noqa: S314 - ours


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_names_exist(source: Path) -> None:
    """What stands between backquotes is a name of the code."""
    names = [
        name
        for quoted in re.findall(r"`([^`]+)`", source.read_text("utf-8"))
        for name in quoted.split("=")[:1]
    ]
    assert names
    assert not [name for name in names if not exists(name)]


@pytest.mark.parametrize(
    ("diagram", "words"),
    [
        ("row", set(FAILED_STATUSES)),
        ("inbound", set(INBOX_STATUSES)),
        ("call", set(get_args(Outcome))),
    ],
)
def test_the_statuses_are_those_of_the_code(diagram: str, words: set[str]) -> None:
    """Each status has its box."""
    boxes = set(BOX.findall((DIAGRAMS / f"{diagram}.txt").read_text("utf-8")))
    assert words <= boxes


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_page_shows_it(source: Path) -> None:
    """No picture is forgotten."""
    pages = DIAGRAMS.parent.rglob("*.rst")
    assert any(f"diagrams/{source.stem}.svg" in page.read_text("utf-8") for page in pages)
