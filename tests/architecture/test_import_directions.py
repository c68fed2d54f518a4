"""Who imports whom: only to the right, and no circle."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import buttdial_sync

ROOT = Path(str(buttdial_sync.__file__)).parent
STEPS: tuple[frozenset[str], ...] = tuple(
    frozenset(step.split())
    for step in (
        "_version _renamed _extras",
        "_lazy",
        "errors",
        "settings",
        "models",
        "transport",
        "stores",
        "connection ailoop happy procedura",
        "calls",
        "tools",
        "agent",
        "client accounts",
        "shared",
        "inbound",
        "retry listening",
        "doctor operator",
        "testing",
        "cli contrib",
    )
)
ANYWHERE = {"attrs", "cattrs", "click", "requests", "sseclient", "tenacity", "urllib3"}
ONLY_IN = {
    "pytest": ("testing.plugin",),
    "responses": ("testing.mocked",),
    "sqlalchemy": (
        *("stores.sqlalchemy", "retry.sqlalchemy", "inbound.sqlalchemy_inbox"),
        "retry.leased",  # for its types
    ),
    "dotenv": ("settings", "cli"),
    "django": ("contrib.django",),
    "flask": ("contrib.flask",),
    "celery": ("contrib.celery",),
    "kombu": ("contrib.celery",),
    "phonenumbers": ("calls.recipients",),
    "socketio": ("happy", "testing.happy"),
    "websocket": ("happy",),  # below socketio
    "websockets": ("transport.websocket", "testing.procedura", "testing.ailoop"),
    "nacl": ("happy",),
    "cryptography": ("happy",),
    "opentelemetry": ("contrib.opentelemetry",),
    "prometheus_client": ("contrib.prometheus",),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, inside functions and for types too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(module: str) -> Iterator[str]:
    """What a module imports of this package, without the package's name."""
    for name in imports_of(MODULES[module]):
        top, _, rest = name.partition(".")
        if top == "buttdial_sync" and rest in MODULES and rest != module:
            yield rest


def room_of(module: str) -> str:
    return module.partition(".")[0]


def step_of(module: str) -> int:
    return next(number for number, step in enumerate(STEPS) if room_of(module) in step)


def test_every_room_has_its_step() -> None:
    """No room is missing in the order, and the top level holds nothing else."""
    known = frozenset().union(*STEPS) | {"", "__main__"}
    assert {room_of(module) for module in MODULES} <= known


@pytest.mark.parametrize("module", [name for name in MODULES if name not in {"", "__main__"}])
def test_imports_point_to_the_right(module: str) -> None:
    """A module imports only what stands further right, and no room beside its own."""
    for imported in ours(module):
        if not imported:
            continue
        same_room = room_of(imported) == room_of(module)
        assert same_room or step_of(imported) < step_of(module), f"{module} imports {imported}"


def test_families_do_not_know_each_other() -> None:
    """A tool family imports helpers of ``tools/``, but no other family."""
    families = {
        module for module in MODULES if module.startswith("tools.") and module in set(ours("agent"))
    }
    assert families
    for module in MODULES:
        if module.startswith("tools."):
            assert not families & set(ours(module)), f"{module} imports a family"


@pytest.mark.parametrize("module", list(MODULES))
def test_frameworks_stay_in_their_rooms(module: str) -> None:
    """Third-party packages are imported only where their extra is asked for."""
    for name in imports_of(MODULES[module]):
        top = name.partition(".")[0]
        if top == "buttdial_sync" or top in sys.stdlib_module_names:
            continue
        rooms = ONLY_IN.get(top, ("",) if top in ANYWHERE else ())
        assert any(module.startswith(room) for room in rooms), f"{module} imports {name}"


def test_no_circle() -> None:
    """No module imports itself by way of others."""
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for imported in ours(module):
                if imported:
                    visit(imported, (*way, module))
            done.add(module)

    for module in MODULES:
        if module:
            visit(module, ())
