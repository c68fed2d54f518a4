"""The documentation has everything that is public, mostly in the API reference."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

import buttdial_sync
from buttdial_sync import procedura, retry, testing

DOCS = Path(__file__).parents[2] / "docs"
DIRECTIVE = re.compile(r"^\.\. (?!automodule)\S+:: (buttdial_sync\.[\w.]+)$", re.MULTILINE)
# It needs an extra, which whoever builds the documentation may lack.
ELSEWHERE = {"__version__", "SQLAlchemyRepository"}


def described() -> list[str]:
    """Return what the pages describe, as often as they do."""
    pages = (page for page in DOCS.rglob("*.rst") if "_build" not in page.parts)
    return [name for page in pages for name in DIRECTIVE.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize(
    "module", [buttdial_sync, procedura, retry, testing], ids=lambda m: str(m.__name__)
)
def test_every_public_name_is_documented(module: object) -> None:
    """Each has its directive."""
    documented = {name.rpartition(".")[2] for name in described()}
    assert not {*dir(module)} - documented - ELSEWHERE


def test_nothing_is_documented_twice() -> None:
    """A name has one home, which the references lead to."""
    assert not [name for name, times in Counter(described()).items() if times > 1]
