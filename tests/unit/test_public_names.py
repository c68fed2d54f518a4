"""What ``import buttdial_sync`` gives, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module, resources
from pathlib import Path

import pytest

import buttdial_sync
from buttdial_sync import errors

SOURCE = Path(str(buttdial_sync.__file__))
HEAVY = ("requests", "cattrs", "tenacity", "urllib3")


def names_of_stub() -> dict[str, str]:
    """The names that the stub imports, with their modules."""
    found: dict[str, str] = {}
    for node in ast.parse(SOURCE.with_suffix(".pyi").read_text("utf-8")).body:
        assert isinstance(node, ast.ImportFrom), "a stub has imports only"
        for alias in node.names:
            assert alias.name == "*" or alias.asname == alias.name, "a plain import is private"
            found[alias.name] = str(node.module)
    return found


def test_every_name_is_importable() -> None:
    """Each public name can be had from the package, and is the one of its home."""
    homes = names_of_stub()
    assert homes.pop("*") == "buttdial_sync.errors"
    assert dir(buttdial_sync) == sorted({*homes, *errors.__all__})
    assert sorted(import_module("buttdial_sync").__all__) == dir(buttdial_sync)
    for name, home in homes.items():
        assert getattr(buttdial_sync, name) is getattr(import_module(home), name)
    for name in errors.__all__:
        assert getattr(buttdial_sync, name) is getattr(errors, name)


def test_no_public_name_is_an_error_too() -> None:
    """A name has one home."""
    assert not names_of_stub().keys() & set(errors.__all__)


def test_errors_are_listed_completely() -> None:
    """Every exception class of the tree is exported; the list has no doubles and is sorted."""
    known = [
        value.__name__ for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.ButtDialError)
    ]  # fmt: skip
    assert set(known) <= set(errors.__all__)
    assert len(errors.__all__) == len(set(errors.__all__))
    assert set(every_error_name()) <= set(errors.__all__)


def test_type_checkers_can_read_the_errors_list() -> None:
    """A list that is computed would turn every error of the package into ``Any``, silently."""
    (listed,) = [
        node.value
        for node in ast.parse(Path(str(errors.__file__)).read_text("utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert ast.literal_eval(listed) == errors.__all__


def every_error_name(base: type[BaseException] | None = None) -> list[str]:
    kinds = (base or errors.ButtDialError).__subclasses__()
    names = [kind.__name__ for kind in kinds if kind.__module__.startswith("buttdial_sync.errors")]
    return names + [name for kind in kinds for name in every_error_name(kind)]


def test_unknown_names_are_attribute_errors() -> None:
    """A wrong name fails as in any module, private ones of the errors included."""
    for name in ("Nonsense", "_codes", "_HOME"):
        with pytest.raises(AttributeError, match=name):
            getattr(buttdial_sync, name)


@pytest.mark.parametrize("statement", ["import buttdial_sync", "import buttdial_sync.errors"])
def test_import_is_cheap(statement: str) -> None:
    """Importing the package loads no HTTP library and no converter."""
    code = f"import sys\n{statement}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_star_import_gives_everything() -> None:
    """``from buttdial_sync import *`` works, and gives every public name."""
    names: dict[str, object] = {}
    exec("from buttdial_sync import *", names)  # noqa: S102 - the statement is what is tested
    assert set(dir(buttdial_sync)) <= names.keys()


def test_package_is_typed() -> None:
    """The marker for type checkers is there."""
    assert resources.files("buttdial_sync").joinpath("py.typed").is_file()
