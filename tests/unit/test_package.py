"""What the package says about itself, in one way everywhere."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"bench", "dev", "docs"}  # for those who work on the package


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", "utf-8")
    return parser


@pytest.mark.parametrize(
    "page", ["README.rst", "docs/getting-started.rst", "buttdial_sync/guide.rst"]
)
def test_extras(page: str, setup: configparser.ConfigParser) -> None:
    """Each page lists all of them, and no other."""
    text = (ROOT / page).read_text("utf-8")
    paragraph = re.search(r"^Extras: .*?(?=\n\n)", text, re.M | re.S)
    assert paragraph, page
    without_notes = re.sub(r"\([^)]*\)", "", paragraph[0])
    listed = re.findall(r"``([\w-]+)``", without_notes)
    assert sorted(listed) == sorted(setup["options.extras_require"].keys() - OURS)


def test_addresses(setup: configparser.ConfigParser) -> None:
    """The package index shows where to look."""
    addresses = re.findall(r"= (\S+)", setup["metadata"]["project_urls"])
    assert addresses
    assert all(each.startswith("https://") for each in addresses)
