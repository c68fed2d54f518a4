"""The mutation check (``python -m tests.mutation``): what it makes of a module, what it runs."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.mutation import rooms
from tests.mutation.mutants import headline, mutants_of, round_trip, statements
from tests.mutation.review import PATCHES, Patch
from tests.mutation.running import ControlFailedError, Reach, Stage, project_copies
from tests.mutation.survivors import accepted

ROOT = Path(__file__).parents[2]

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
        ("if TYPE_CHECKING:\n        pass", set()),
        ("@overload\n    def g(a=1): ...", set()),
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


def test_the_core_is_every_module_of_its_rooms() -> None:
    """A new module of these rooms is looked at without being named, and has tests."""
    package = ROOT / "buttdial_sync"
    core = ("calls", "transport", "stores", "retry", "listening", "inbound", "errors")
    files = [file for room in core for file in (package / room).glob("**/*.py")]
    expected = {str(file.relative_to(ROOT)) for file in [*files, package / "connection.py"]}
    assert len(expected) > 90
    assert set(rooms.LEFT_OUT) < expected
    assert set(rooms.core(ROOT)) == expected - set(rooms.LEFT_OUT)
    for module in expected:
        near, rest = rooms.tests_of(module, ROOT)
        assert near
        assert all((ROOT / path).exists() for path in [*near, *rest])


@pytest.mark.parametrize(
    ("module", "first", "then"),
    [
        # the file that bears its name
        ("transport/pool.py", ["tests/unit/transport/test_pool.py"], "tests/unit/transport"),
        # what its room names, and no file bears its name
        ("retry/verdicts.py", ["tests/unit/retry/test_recorder.py"], "tests/unit/retry"),
    ],
)
def test_near_tests(module: str, first: list[str], then: str) -> None:
    """The tests beside a module are met first, then those of its room."""
    near, rest = rooms.tests_of(f"buttdial_sync/{module}", ROOT)
    assert near == first
    assert rest[0] == then


def test_a_room_without_a_file_of_the_modules_name() -> None:
    near, rest = rooms.tests_of("buttdial_sync/errors/accounts.py", ROOT)
    assert near == ["tests/unit/errors", "tests/unit/accounts"]
    assert rest == []


def test_which_lines_a_mutant_runs() -> None:
    """Those of its statement; none where an import runs it, which every test does."""
    lines = MODULE.splitlines()
    for mutant in mutants_of("m.py", MODULE):
        if mutant.place == "Door.enter":
            assert mutant.line in mutant.executed
            assert len(mutant.executed) == 1
        else:
            assert lines[mutant.line - 1].strip() in {"LIMIT = 10", "open: bool = False"}
            assert not mutant.executed
    source = "def f(a=1):\n    if (a\n            or b):\n        return c(d, e)\n"
    executed = {mutant.before: mutant.executed for mutant in mutants_of("m.py", source)}
    assert executed == {
        "def f(a=1):": range(0),
        "if a or b:": range(2, 4),
        "return c(d, e)": range(4, 5),
    }


def test_the_order_of_tests() -> None:
    """Tests that run the line, the nearest and quickest first; all, if none is known to."""
    seconds = {f"t{number}": float(number) for number in range(1, 15)}
    reach = Reach(seconds, {3: list(seconds), 4: ["t2", "t9"]})
    assert [(each.tests, each.limit) for each in reach.stages(range(4, 6))] == [(["t2", "t9"], 44)]
    first, second = reach.stages(range(3, 4))
    assert (first.tests, second.tests) == (list(seconds)[:10], list(seconds)[10:])
    assert (first.limit, second.limit) == (220, 200)
    for unknown in (range(0), range(5, 6)):
        assert reach.stages(unknown) == [first, second]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 writes more parentheses")
def test_survivors_stand_in_the_source() -> None:
    """An accepted mutant whose line has changed would say nothing about the line of today."""
    lines = {}
    for path in {key[0] for key in accepted()}:
        tree = ast.parse((ROOT / path).read_text())
        lines[path] = {(place, headline(each)) for place, each in statements(tree)}
    gone = [key for key in accepted() if (key[1], key[2]) not in lines[key[0]]]
    assert gone == []


@pytest.mark.parametrize("patch", PATCHES, ids=str)
def test_patches_stand_in_the_source(patch: Patch) -> None:
    """A mutant of the review is skipped if its text is gone, and then nothing is known."""
    assert (ROOT / patch.path).read_text().count(patch.old) == 1


TOY = {
    "buttdial_sync/__init__.py": "",
    "buttdial_sync/testing/__init__.py": "",
    "buttdial_sync/testing/plugin.py": "",
    "buttdial_sync/toy.py": "def least():\n  return 1\ndef most():\n  return 2\n"
    "from functools import cache\n@cache\ndef kept():\n  return 3\n"
    "def made():\n  return 4\nMADE = made()",
    "tests/__init__.py": "",
    "tests/test_toy.py": "from buttdial_sync import toy\ndef test(): assert toy.least() > 0",
    "tests/test_more.py": "from buttdial_sync import toy\n"
    "def test_least(): assert toy.least() < 9\n"
    "def test_most(): assert toy.most() == 2 and toy.kept()\n"
    "def test_kept(): assert toy.kept() == 3\n"
    "def test_made(): assert toy.made()",
}


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    for name, text in TOY.items():
        (tmp_path / "toy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "toy" / name).write_text(text)
    return tmp_path / "toy"


@pytest.mark.slow
def test_fates(toy: Path) -> None:
    """Each run sees its own mutant, also if the texts of two have one length."""
    path, source = "buttdial_sync/toy.py", TOY["buttdial_sync/toy.py"]
    near, more = "tests/test_toy.py", "tests/test_more.py"
    with project_copies(toy, 1, ["tests"], ["buttdial_sync/toy.py"]) as (copy,):
        reach = copy.reach(path, [near], [more])
        assert next(iter(reach.seconds)) == f"{near}::test"
        assert set(reach.by_line[2]) == {f"{near}::test", f"{more}::test_least"}
        assert set(reach.by_line[4]) == {f"{more}::test_most"}
        # What is kept between tests is needed by all of them, and so is what an import runs.
        assert set(reach.by_line[8]) == {f"{more}::test_most", f"{more}::test_kept"}
        assert 10 not in reach.by_line
        stages = reach.stages(range(2, 3))
        assert copy.fate(path, source.replace("1", "0"), stages) == "killed"
        hangs = [Stage([near], 1.0)]
        assert copy.fate(path, "def least():\n  while 1: pass", hangs) == "endless"
        assert copy.fate(path, source.replace("1", "8"), stages) == "survived"
        assert copy.fate(path, source.replace("1", "9"), stages) == "killed"
        assert copy.fate(path, source.replace("2", "3"), stages) == "survived"
        assert copy.fate(path, source.replace("2", "3"), reach.stages(range(4, 5))) == "killed"
    assert (toy / path).read_text() == source


@pytest.mark.slow
def test_tests_that_fail_by_themselves(toy: Path) -> None:
    """They would kill every mutant."""
    (toy / "tests/test_more.py").write_text("def test(): assert False")
    with (
        project_copies(toy, 1, ["tests"], ["buttdial_sync/toy.py"]) as (copy,),
        pytest.raises(ControlFailedError, match="not mutated"),
    ):
        copy.reach("buttdial_sync/toy.py", ["tests/test_more.py"], [])
