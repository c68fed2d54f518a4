"""What the pages for maintainers name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.code_names import exists

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "internals").glob("*.rst"))
NAME = re.compile(r"``([A-Z]\w+\.(?!rst)\w+|_?[A-Z][a-z]+[A-Z]\w+|[a-z]+_[a-z_]+)(?:\(\))?``")
FILE = re.compile(r"``((?:[\w.]+/)*[\w.]+\.(?:py|pyi|txt|json|cfg|rst))``")
# Names of Python, of other libraries, of columns and options, and of the servers.
FOREIGN = {
    "AttributeError", "DeprecationWarning", "HTTPAdapter.send", "SimpleQueue.get",
    "Session.send", "not_sent", "requests_mock",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_names_exist(page: Path) -> None:
    """Functions, classes and methods, as they are written in the code."""
    names = set(NAME.findall(page.read_text("utf-8"))) - FOREIGN
    assert not sorted(name for name in names if not exists(name))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem != "walks"], ids=lambda path: path.stem
)
def test_files_exist(page: Path) -> None:
    """Modules, by their path in the package or in the checkout."""
    places = [ROOT, ROOT / "buttdial_sync", ROOT / "tests" / "simulation"]
    files = set(FILE.findall(page.read_text("utf-8")))
    assert not sorted(name for name in files if not any((at / name).exists() for at in places))


def test_the_life_of_a_call_names_its_modules() -> None:
    """The pattern finds what it is to find."""
    text = (ROOT / "docs/internals/call.rst").read_text("utf-8")
    assert len(set(NAME.findall(text))) > 20
    assert len(set(FILE.findall(text))) > 12
