"""The names that the library's code defines, for tests of pages that mention them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "buttdial_sync"


def exists(name: str) -> bool:
    """Whether it is a ``module``, ``function``, ``Class``, ``Class.member`` or ``argument``."""
    return name in _names()


@cache
def _names() -> set[str]:
    paths = list(PACKAGE.rglob("*.py"))
    trees = (ast.parse(path.read_text("utf-8")) for path in paths)
    modules = {path.stem for path in paths} | {path.name for path in [PACKAGE, *PACKAGE.iterdir()]}
    return modules | {name for tree in trees for name in _defined(tree, "")}


def _defined(node: ast.AST, owner: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        within = owner
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from (child.name, f"{owner}{child.name}")
            within = f"{child.name}." if isinstance(child, ast.ClassDef) else owner
        elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            yield from (child.target.id, f"{owner}{child.target.id}")
        elif isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Store):
            yield f"{owner}{child.attr}"
        elif isinstance(child, ast.arg):
            yield child.arg
        yield from _defined(child, within)
