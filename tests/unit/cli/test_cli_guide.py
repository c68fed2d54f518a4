"""The manual, the examples and the exceptions: what comes with the package."""

from __future__ import annotations

import configparser
import json
import os
import re
from pathlib import Path

import pytest

import buttdial_sync
from buttdial_sync import errors
from buttdial_sync.procedura import errors as procedura_errors
from tests.unit.cli.cli_runner import run

ROOT = Path(str(buttdial_sync.__file__)).parents[1]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir())


def test_guide_is_the_file_of_the_package() -> None:
    """The manual is printed whole, and --json has it too."""
    text = (ROOT / "buttdial_sync" / "guide.rst").read_text("utf-8")
    assert run("guide").stdout.splitlines() == text.splitlines()
    assert json.loads(run("guide", "--json").stdout)["guide"] == text


def test_guide_names_what_exists() -> None:
    """Every public name of the package that the manual speaks of is one."""
    text = (ROOT / "buttdial_sync" / "guide.rst").read_text("utf-8")
    for name in ("Client", "AccountsClient", "InboundHandler", "Listener", "Outbox", "RetryLoop"):
        assert name in text
        assert getattr(buttdial_sync, name)


def test_examples_are_listed_with_a_sentence() -> None:
    """Each directory of examples is there, and says what it is."""
    lines = run("example", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == EXAMPLES
    assert all(len(line.split()) > 2 for line in lines)
    listed = json.loads(run("example", "list", "--json").stdout)["examples"]
    assert [each["name"] for each in listed] == EXAMPLES
    assert json.loads(run("example", "--json", "list").stdout)["examples"] == listed


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_shown_and_copied_whole(name: str, tmp_path: Path) -> None:
    """Every file is shown; what is written is the same, byte by byte, and is named."""
    source = ROOT / "examples" / name
    files = sorted(p for p in source.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    shown = json.loads(run("example", "show", name, "--json").stdout)["files"]
    assert shown == {p.relative_to(source).as_posix(): p.read_text("utf-8") for p in files}
    dest = tmp_path / "made" / "here"
    result = run("example", "extract", name, str(dest))
    assert result.exit_code == 0
    copies = [dest / path.relative_to(source) for path in files]
    assert result.stdout.splitlines() == [f"wrote {path}" for path in copies]
    assert [path.read_bytes() for path in copies] == [path.read_bytes() for path in files]


def test_show_begins_each_file_with_its_name() -> None:
    """What is printed can be told apart by file."""
    shown = run("example", "show", "minimal").stdout
    assert shown.startswith("# ===== minimal/send_one.py =====\n")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A file in the way, a dangling link too, ends it before anything is written."""
    (tmp_path / "send_one.py").symlink_to(tmp_path / "nowhere")
    result = run("example", "extract", "minimal", str(tmp_path))
    assert result.exit_code == 1
    assert "send_one.py exists already" in result.stderr
    assert os.listdir(tmp_path) == ["send_one.py"]


def test_an_example_goes_beside_other_files(tmp_path: Path) -> None:
    """A directory that exists is no obstacle, only files of the same name are."""
    (tmp_path / "mine.txt").write_text("mine")
    assert run("example", "extract", "minimal", str(tmp_path)).exit_code == 0
    assert sorted(os.listdir(tmp_path)) == ["mine.txt", "send_one.py"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A file where the directory should be: the reason, and no traceback."""
    (tmp_path / "file").write_text("")
    result = run("example", "extract", "minimal", str(tmp_path / "file" / "below"))
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: cannot write")


@pytest.mark.parametrize("name", ["nonsense", "../tests", ".", ""])
@pytest.mark.parametrize("command", [("show",), ("extract",)])
def test_unknown_examples(command: tuple[str, ...], name: str, tmp_path: Path) -> None:
    """Only the examples can be had, by their names; the others are named."""
    dest = (str(tmp_path),) if command == ("extract",) else ()
    result = run("example", *command, name, *dest)
    assert result.exit_code == 2
    assert "minimal" in result.stderr


def test_errors_lists_every_class() -> None:
    """All exceptions are listed, below their parents, each with its sentence."""
    lines = run("errors").stdout.splitlines()
    kinds = {
        kind.__name__
        for kind in (
            *(getattr(errors, name) for name in errors.__all__),
            *vars(procedura_errors).values(),
        )
        if isinstance(kind, type) and issubclass(kind, errors.ButtDialError)
    }
    assert "ProceduraError" in kinds
    assert {line.split(":")[0].strip() for line in lines} == kinds
    assert all(line.split(": ", 1)[1] for line in lines)
    assert lines[0].startswith("ButtDialError: ")
    listed = json.loads(run("errors", "--json").stdout)["errors"]
    assert {each["name"] for each in listed} == kinds


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("RateLimitError", errors.RateLimitError),
        ("ratelimiterror", errors.RateLimitError),
        ("RATE_LIMITED", errors.RateLimitError),
        ("auth_invalid_token", errors.AuthInvalidTokenError),
        ("RevokedToken", errors.AuthTokenRevokedError),
    ],
)
def test_errors_explains_a_class_or_a_code(name: str, kind: type[errors.ButtDialError]) -> None:
    """A class is found by its name, an old name, or a server's code, in any case."""
    shown = run("errors", name).stdout
    assert shown.startswith(f"{kind.__name__} (")
    data = json.loads(run("errors", name, "--json").stdout)
    assert data["name"] == kind.__name__
    assert data["remediation"] == kind.remedy
    assert str(kind.remedy) in shown
    assert all(code in shown for code in kind.server_codes)


@pytest.mark.parametrize(
    ("code", "kind", "advice"),
    [
        ("CALLING_HOURS", errors.ComplianceError, "between 8:00 and 21:00"),
        ("content_refused", errors.ComplianceError, "Change the text"),
        ("INVALID_RECIPIENT", errors.InvalidRequestError, "E.164"),
        ("ENDPOINT_NOT_AVAILABLE", errors.EndpointNotAvailable, "Check base_url"),
        ("EMFILE", errors.TransportError, "too many files"),
    ],
)
def test_errors_explains_the_librarys_codes(
    code: str, kind: type[errors.ButtDialError], advice: str
) -> None:
    """A code of the library's own is explained with its own advice."""
    shown = run("errors", code).stdout
    assert shown.startswith(f"{kind.__name__} (")
    assert advice in shown
    assert advice in json.loads(run("errors", code, "--json").stdout)["remediation"]


def test_errors_explains_every_code_of_the_page() -> None:
    """The page of errors sends its readers to this command."""
    page = (ROOT / "docs" / "errors.rst").read_text("utf-8")
    codes = re.findall(r"^``([A-Z_]+)`` ", page, re.MULTILINE)
    assert len(codes) > 30
    assert not [code for code in codes if run("errors", code).exit_code != 0]


def test_an_unknown_error_names_the_nearest() -> None:
    """A slip of the pen ends with the right name."""
    result = run("errors", "RateLimtError")
    assert result.exit_code == 2
    assert "RateLimitError" in result.stderr


def test_every_package_is_shipped() -> None:
    """setup.cfg lists every package: the examples' place in the wheel forbids finding them."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    listed = set(config["options"]["packages"].split())
    there = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in (ROOT / "buttdial_sync").rglob("__init__.py")
    }
    assert listed == there | {"buttdial_sync.examples"}
