"""What the mutation check (``python -m tests.mutation``) makes of a module."""

from __future__ import annotations

import ast

import pytest

from tests.mutation.mutants import mutants_of, round_trip

MODULE = '''
"""A docstring is left alone, and so is what is only logged for people who look for a fault."""
LIMIT = 10

class Door:
    open: bool = False

    def enter(self, age: int, name: str) -> str | None:
        """Say so."""
        if age < LIMIT and not self.open:
            raise ValueError(name)
        logger.debug("enters")
        self.open = True
        return greet(name, age)
'''


def changes(source: str) -> set[tuple[str, str]]:
    return {(each.before, each.after) for each in mutants_of("m.py", source)}


def test_a_module() -> None:
    """Limits, conditions, statements, results and arguments: each changed once."""
    condition = "if age < LIMIT and (not self.open):"
    assert changes(MODULE) == {
        ("LIMIT = 10", "LIMIT = 11"),
        ("LIMIT = 10", "LIMIT = 9"),
        ("LIMIT = 10", "LIMIT = 0"),
        ("open: bool = False", "open: bool = True"),
        (condition, "if age <= LIMIT and (not self.open):"),
        (condition, "if age >= LIMIT and (not self.open):"),
        (condition, "if age < LIMIT or not self.open:"),
        (condition, "if age < LIMIT:"),
        (condition, "if not self.open:"),
        (condition, "if age < LIMIT and self.open:"),
        ("raise ValueError(name)", "pass"),
        ("self.open = True", "pass"),
        ("self.open = True", "self.open = False"),
        ("return greet(name, age)", "return"),
        ("return greet(name, age)", "return greet(age, name)"),
    }


@pytest.mark.parametrize(
    ("source", "after"),
    [
        ("return", {"pass"}),
        ("return min(a)", {"return", "return max(a)"}),
        ("return a + b", {"return", "return a - b"}),
        ("return a if b else c", {"return", "return a if not b else c"}),
        ("if a:\n        pass", {"if not a:"}),
        ("a.b(c)", {"pass"}),
        ("del a", {"pass"}),
        ("return a < b <= c", {"return", "return a <= b <= c", "return a >= b <= c",
                               "return a < b < c", "return a < b > c"}),
        ("pass", set()),
        ("a: int = b", set()),
    ],
)  # fmt: skip
def test_a_statement(source: str, after: set[str]) -> None:
    """One change at a time, of each kind that fits."""
    assert {each for _, each in changes(f"def f():\n    {source}\n")} == after


def test_each_differs_in_one_line() -> None:
    """A mutant is the module but for its change; where it stands is told."""
    whole = round_trip(MODULE).splitlines()
    for mutant in mutants_of("m.py", MODULE):
        ast.parse(mutant.text)
        lines = mutant.text.splitlines()
        different = [pair for pair in zip(whole, lines, strict=True) if pair[0] != pair[1]]
        assert len(different) == 1
        assert MODULE.splitlines()[mutant.line - 1].strip()
        assert mutant.place in {"", "Door", "Door.enter"}
