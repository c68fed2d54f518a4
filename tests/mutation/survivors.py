"""The survivors that are accepted, each with its reason: ``survivors.txt``."""

from __future__ import annotations

from pathlib import Path

Key = tuple[str, str, str, str]

FILE = Path(__file__).with_name("survivors.txt")
_FIELDS = ("file", "in", "line", "becomes", "because")


def accepted(path: Path = FILE) -> dict[Key, str]:
    """
    Return the reason of each, by the mutant's key.

    Raises:
        ValueError: An entry is not whole.
    """
    found: dict[Key, str] = {}
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    for block in filter(None, (each.strip() for each in text.split("\n\n"))):
        entry = {name: value.strip() for name, _, value in map(_parts, block.splitlines())}
        if tuple(entry) != _FIELDS or not entry["because"]:
            raise ValueError(f"{path}: an entry needs {', '.join(_FIELDS)}:\n{block}")
        file, place, line, becomes, because = (entry[name] for name in _FIELDS)
        found[file, place, line, becomes] = because
    return found


def _parts(line: str) -> tuple[str, str, str]:
    return line.partition(":")
