"""Mutants of a module: its text with one small change."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

import attrs

_OPPOSITES: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
_SWAPPED_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_UNTOLD = {"debug", "info"}  # what is logged there is for people who look for a fault


@attrs.frozen
class Mutant:
    """
    A module with one change.

    Attributes:
        path: The module, relative to the project.
        line: Where.
        executed: The lines of the changed statement that run with it, without those of statements
            inside it; empty outside of a function, where a line is run by an import.
        place: The function or class around it, "" for the module itself.
        before: The first line of the changed statement, in the words of ``ast.unparse``.
        after: What it is now.
        text: The whole module.
    """

    path: str
    line: int
    executed: range
    place: str
    before: str
    after: str
    text: str = attrs.field(repr=False)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it is known by, however the lines move."""
        return self.path, self.place, self.before, self.after

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.line} ({self.place or 'module'}): {self.before}  =>  {self.after}"
        )


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    found: dict[tuple[str, str, str, str], Mutant] = {}
    runs_later = {id(each) for function in _functions(tree) for each in ast.walk(function)}
    for place, statement in statements(tree):
        if _is_overload(statement):
            continue
        executed = _own_lines(statement) if id(statement) in runs_later else range(0)
        for before, after, line in _changes(statement):
            mutant = Mutant(path, line, executed, place, before, after, ast.unparse(tree))
            if before != after:
                found.setdefault(mutant.key, mutant)
    return list(found.values())


def round_trip(source: str) -> str:
    """Return a module as its mutants are written, but unchanged."""
    return ast.unparse(ast.parse(source))


def statements(node: ast.AST, place: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Yield every statement inside of a node, with the function or class around it."""
    for child in ast.iter_child_nodes(node):
        inner = place
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inner = f"{place}.{child.name}".lstrip(".")
        if isinstance(child, ast.stmt):
            yield inner, child
        yield from statements(child, inner)


def _functions(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements of functions: what a ``def`` itself runs belongs to the import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from node.body


def _own_lines(statement: ast.stmt) -> range:
    inner = [each.lineno for each in ast.iter_child_nodes(statement) if isinstance(each, ast.stmt)]
    end = min(inner) - 1 if inner else statement.end_lineno or statement.lineno
    return range(statement.lineno, max(end, statement.lineno) + 1)


def _is_overload(statement: ast.stmt) -> bool:
    """Whether a statement is there for type checkers: nobody calls it."""
    decorators = statement.decorator_list if isinstance(statement, ast.FunctionDef) else []
    return any(isinstance(each, ast.Name) and each.id == "overload" for each in decorators)


def headline(statement: ast.stmt) -> str:
    """Return the first line of a statement, without decorators, in the words of ``ast.unparse``."""
    lines = ast.unparse(statement).splitlines()
    return next((line for line in lines if not line.startswith("@")), "")


def _changes(statement: ast.stmt) -> Iterator[tuple[str, str, int]]:
    """Change a statement in place, one way after the other; it is whole again after each."""
    before = headline(statement)
    for node in _own_nodes(statement):
        own_kind, own_fields = node.__class__, dict(node.__dict__)
        for kind, fields in list(_replacements(node)):
            node.__class__ = kind
            node.__dict__.update(fields)
            yield before, headline(statement), getattr(node, "lineno", statement.lineno)
            node.__class__ = own_kind
            node.__dict__.clear()
            node.__dict__.update(own_fields)


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield a statement and its expressions, without statements inside it and annotations."""
    yield statement
    waiting = [each for name, each in _fields(statement) if not _is_left_out(statement, name)]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.stmt | ast.JoinedStr | ast.excepthandler):
            continue
        yield node
        waiting += [each for name, each in _fields(node) if name != "annotation"]


def _fields(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for name, value in ast.iter_fields(node):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.AST):
                yield name, each


def _is_left_out(statement: ast.stmt, field: str) -> bool:
    if field in {"annotation", "returns", "decorator_list", "bases"}:
        return True
    return isinstance(statement, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal)


Replacement = tuple[type[ast.AST], dict[str, object]]


def _replacements(node: ast.AST) -> Iterator[Replacement]:
    """Yield what a node may become: a kind of node, and the fields that differ."""
    if isinstance(node, ast.stmt):
        return _of_statement(node)
    change = _CHANGES.get(type(node))
    return iter(()) if change is None else change(node)


def _of_statement(node: ast.stmt) -> Iterator[Replacement]:
    if isinstance(node, ast.If | ast.While):
        is_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        is_simple = not isinstance(node.test, ast.Compare | ast.UnaryOp | ast.BoolOp | ast.Constant)
        if is_simple and not is_for_types:
            yield type(node), {"test": ast.UnaryOp(ast.Not(), node.test)}
    elif isinstance(node, ast.Return):
        if node.value is None:
            yield ast.Pass, {}
        elif not _is_falsy(node.value):
            yield ast.Return, {"value": None}
    elif _may_go(node):
        yield ast.Pass, {}


def _may_go(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        call = node.value
        if not isinstance(call, ast.Call):
            return False  # a docstring, a yield, the dots of an overload
        function = call.func
        return not (isinstance(function, ast.Attribute) and function.attr in _UNTOLD)
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        is_kept = any(isinstance(each, ast.Attribute | ast.Subscript) for each in targets)
        return is_kept and node.value is not None  # a name that is missing shows at once
    return isinstance(node, ast.AugAssign | ast.Raise | ast.Delete | ast.Break | ast.Continue)


def _of_compare(node: ast.Compare) -> Iterator[Replacement]:
    for number, operation in enumerate(node.ops):
        for operator in _OPPOSITES[type(operation)]:
            ops = [*node.ops[:number], operator(), *node.ops[number + 1 :]]
            yield ast.Compare, {"ops": ops}


def _of_bool_op(node: ast.BoolOp) -> Iterator[Replacement]:
    yield ast.BoolOp, {"op": ast.And() if isinstance(node.op, ast.Or) else ast.Or()}
    for number in range(len(node.values)):
        yield ast.BoolOp, {"values": [*node.values[:number], *node.values[number + 1 :]]}


def _of_unary_op(node: ast.UnaryOp) -> Iterator[Replacement]:
    if isinstance(node.op, ast.Not):
        yield type(node.operand), dict(node.operand.__dict__)


def _of_bin_op(node: ast.BinOp) -> Iterator[Replacement]:
    if type(node.op) in _ARITHMETIC:
        yield ast.BinOp, {"op": _ARITHMETIC[type(node.op)]()}


def _of_constant(node: ast.Constant) -> Iterator[Replacement]:
    value = node.value
    others: list[object] = []
    if isinstance(value, bool):
        others = [not value]
    elif isinstance(value, int | float):
        others = [each for each in dict.fromkeys([value + 1, value - 1, 0]) if each != value]
    yield from ((ast.Constant, {"value": other}) for other in others)


def _of_if_exp(node: ast.IfExp) -> Iterator[Replacement]:
    if not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield ast.IfExp, {"test": ast.UnaryOp(ast.Not(), node.test)}


def _of_call(node: ast.Call) -> Iterator[Replacement]:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in _SWAPPED_NAMES:
        yield ast.Call, {"func": ast.Name(_SWAPPED_NAMES[name])}
    elif len(node.args) == 2 and name not in {"isinstance", "getattr", "hasattr", "cast"}:
        first, second = node.args
        if isinstance(first, ast.Name) and isinstance(second, ast.Name):
            yield ast.Call, {"args": [second, first]}


def _is_falsy(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not node.value


_CHANGES: dict[type[ast.AST], Callable[[Any], Iterator[Replacement]]] = {
    ast.BinOp: _of_bin_op,
    ast.BoolOp: _of_bool_op,
    ast.Call: _of_call,
    ast.Compare: _of_compare,
    ast.Constant: _of_constant,
    ast.IfExp: _of_if_exp,
    ast.UnaryOp: _of_unary_op,
}
