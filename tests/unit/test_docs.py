"""Every Python block of the README and of the documentation runs as it stands."""

from __future__ import annotations

import ast
import inspect
import logging
import re
import sqlite3
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest

from buttdial_sync import DeliveryReceipt, InboundMessage, StatusUpdate
from buttdial_sync.doctor.stages import STAGES
from buttdial_sync.testing import (
    FakeButtDialServer,
    FakeHappyServer,
    FakeProceduraServer,
    LoopbackServer,
    ModuleFailure,
)

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.rst",
    ROOT / "buttdial_sync" / "guide.rst",
    *sorted(page for page in DOCS.rglob("*.rst") if "_build" not in page.parts),
]
WITH_FILES = [page for page in PAGES if page.is_relative_to(DOCS)]
BLOCK = re.compile(
    r"^(?P<skip> *\.\. not run: .+\n)?( *)\.\. code-block:: python\n"
    r"(?P<options>(?:\2 +:.*\n)*)(?P<code>(?:\s*\n|\2 +.*\n?)+)",
    re.MULTILINE,
)
"""A block of Python, which runs unless the line before it says why it does not."""


def files(page: Path) -> list[tuple[str, str]]:
    """The module of each block, by its caption, and the block. Cells of a notebook share one."""
    found = [each for each in BLOCK.finditer(page.read_text("utf-8")) if not each["skip"]]
    captions = [each["options"].partition(":caption: ")[2].strip() for each in found]
    return [
        (
            Path(caption).stem if caption.endswith(".py") else "",
            textwrap.dedent(each["code"]).strip(),
        )
        for caption, each in zip(captions, found, strict=True)
    ]


def blocks(page: Path) -> list[str]:
    return [block for _, block in files(page)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackServer]:
    with FakeButtDialServer().listen() as loopback:
        monkeypatch.setenv("BUTT_DIAL_BASE_URL", loopback.base_url)
        monkeypatch.setenv("BUTT_DIAL_AGENT_TOKEN", "agent-token")
        monkeypatch.setenv("BUTT_DIAL_TEAM_TOKEN", "team-token")
        monkeypatch.setenv("BUTT_DIAL_AGENT_ID", "agent-1")
        yield loopback


@pytest.fixture
def happy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHappyServer]:
    with FakeHappyServer() as server:
        server.add_machine("machine-1")
        monkeypatch.setenv("HAPPY_SERVER_URL", server.server_url)
        monkeypatch.setenv("HAPPY_TOKEN", server.token)
        monkeypatch.setenv("HAPPY_SECRET", server.secret_b64)
        yield server


@pytest.fixture
def world(
    procedura_server: FakeProceduraServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FakeProceduraServer:
    def no_glyph(_: list[str]) -> None:
        raise ModuleFailure("No glyph_prompt found at this coordinate.", coord=[0, 0, 0])

    procedura_server.accounts["admin@procedura.org"] = "secret123"
    procedura_server.module("place_ooi_sprites", lambda args: {"planned": len(args)})
    procedura_server.module("glyph_prompt", no_glyph)
    monkeypatch.setenv("PROCEDURA_URL", procedura_server.url)
    monkeypatch.setenv("PROCEDURA_TOKEN_FILE", str(tmp_path / "token"))
    return procedura_server


@pytest.fixture
def _own_log_level() -> Iterator[None]:
    """A page that shows how to log must not change what other tests find in the log."""
    log = logging.getLogger("buttdial_sync")
    before = log.level
    yield
    log.setLevel(before)


@pytest.mark.usefixtures("_own_log_level")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_blocks_of_a_page_run(
    page: Path,
    server: LoopbackServer,
    happy: FakeHappyServer,
    world: FakeProceduraServer,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """A page's blocks run one after the other, the tests among them with their fixtures."""
    monkeypatch.chdir(tmp_path)  # where their files go
    modules: dict[str, ModuleType] = {}
    for file, block in files(page):
        names: dict[str, Any] = vars(modules.setdefault(file, ModuleType(file)))
        code = block.replace("https://butt-dial.example", server.base_url)
        code = code.replace("wss://world.example", world.url)
        tests = {n.name for n in ast.parse(code).body if isinstance(n, ast.FunctionDef)}
        exec(compile(code, str(page), "exec"), names)  # noqa: S102 - our own pages
        # Blocks of other files import from this one by its name, as a reader's files do.
        monkeypatch.setitem(sys.modules, file, modules[file])
        for name in sorted(n for n in tests if n.startswith("test_")):
            fixtures = inspect.signature(names[name]).parameters
            names[name](**{fixture: request.getfixturevalue(fixture) for fixture in fixtures})
    for each in names.values():
        if isinstance(each, sqlite3.Connection):
            each.close()  # a program's end would do it


@pytest.mark.parametrize("page", WITH_FILES, ids=lambda p: str(p.relative_to(DOCS)))
def test_each_block_names_its_file(page: Path) -> None:
    """Whoever copies a block knows where to."""
    text = page.read_text("utf-8")
    assert not [
        found["code"] for found in BLOCK.finditer(text) if ":caption: " not in found["options"]
    ]


def test_pages_have_blocks() -> None:
    """The pattern finds what it shall find."""
    assert len(blocks(ROOT / "README.rst")) >= 3
    assert sum(len(blocks(page)) for page in PAGES) >= 10


@pytest.mark.parametrize("kind", [InboundMessage, DeliveryReceipt, StatusUpdate])
def test_fields_of_events(kind: type[Any]) -> None:
    """The page where events are used has no field that they lack, and all that a receipt has."""
    page = (DOCS / "receiving.rst").read_text("utf-8")
    table = page.partition(f".. list-table:: {kind.__name__}\n")[2].partition("\n\n.. list")[0]
    names = re.findall(r"``(\w+)``", "\n".join(re.findall(r"^   \* - (.*)$", table, re.MULTILINE)))
    fields = {field.name for field in attrs.fields(kind)}
    assert names
    assert set(names) <= fields
    assert kind is InboundMessage or set(names) == fields


def test_links_to_other_sites() -> None:
    """They are few, and known: nobody without a network can follow them."""
    texts = "".join(page.read_text("utf-8") for page in PAGES)
    links = set(re.findall(r"`[^`]+ <(\w+:[^>]+)>`_", texts))
    assert links == {"https://github.com/goailoop", "https://keepachangelog.com"}


def test_every_code_and_stage_has_its_cure() -> None:
    """Who meets one finds it on the page of symptoms."""
    page = (DOCS / "troubleshooting.rst").read_text("utf-8")
    codes = re.findall(r"^``([A-Z_]+)`` ", (DOCS / "errors.rst").read_text("utf-8"), re.MULTILINE)
    assert len(codes) > 30
    assert not [code for code in codes if f"``{code}``" not in page]
    assert not [stage for stage in STAGES if f"\n{stage}  " not in page]
