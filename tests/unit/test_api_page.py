"""The API reference has everything that is public."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import buttdial_sync
from buttdial_sync import retry, testing

PAGE = Path(__file__).parents[2] / "docs/api.rst"
# It needs an extra, which whoever builds the documentation may lack.
ELSEWHERE = {"__version__", "SQLAlchemyRepository"}


@pytest.mark.parametrize("module", [buttdial_sync, retry, testing], ids=lambda m: str(m.__name__))
def test_every_public_name_is_documented(module: object) -> None:
    """Each has its directive."""
    text = PAGE.read_text("utf-8")
    documented = set(re.findall(r"^\.\. \S+:: buttdial_sync\.(?:\w+\.)*(\w+)$", text, re.MULTILINE))
    assert not {*dir(module)} - documented - ELSEWHERE


def test_nothing_is_documented_twice() -> None:
    """Each directive stands there once."""
    directives = re.findall(r"^\.\. \S+:: \S+$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(directives) == len(set(directives))
