"""The examples, from the installed package: ``example``."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import click

import buttdial_sync
from buttdial_sync.cli.command import ReportingCommand, json_option, verbose_option
from buttdial_sync.cli.report import Failure, Report
from buttdial_sync.errors import ConfigError
from buttdial_sync.errors.exits import EXIT_CODES, REFUSED


@click.group(epilog=EXIT_CODES)
@json_option
@verbose_option
def example() -> None:
    """List, show and copy the examples that come with the package."""


@example.command("list", cls=ReportingCommand)
def list_examples() -> Report:
    """List the examples."""
    found = [{"name": each.name, "summary": _summary(each)} for each in _examples()]
    width = max((len(each["name"]) for each in found), default=0)
    return Report(
        data={"examples": found},
        lines=[f"{each['name']:<{width}}  {each['summary']}".rstrip() for each in found],
    )


@example.command(cls=ReportingCommand)
@click.argument("name")
def show(name: str) -> Report:
    """Print all files of an example."""
    found = _find(name)
    files = {path: file.read_text("utf-8") for path, file in _files(found).items()}
    lines = [
        line
        for path, text in files.items()
        for line in (f"# ===== {name}/{path} =====", *text.splitlines(), "")
    ]
    return Report(data={"name": name, "files": files}, lines=lines)


@example.command(cls=ReportingCommand)
@click.argument("name")
@click.argument("dest", type=click.Path(path_type=Path))
def extract(name: str, dest: Path) -> Report:
    """Copy an example into the directory DEST. Nothing is overwritten."""
    found = _find(name)
    copies = {dest / path: file for path, file in _files(found).items()}
    in_the_way = [str(path) for path in copies if os.path.lexists(path)]
    if in_the_way:
        return _refused(f"{', '.join(in_the_way)} exists already", [])
    written: list[str] = []
    try:
        for path, source in copies.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(source.read_bytes())
            written.append(str(path))
    except OSError as error:
        return _refused(f"cannot write: {error.strerror or type(error).__name__}", written)
    return Report(
        data={"name": name, "written": written},
        lines=[f"wrote {path}" for path in written],
    )


def _refused(message: str, written: list[str]) -> Report:
    return Report(
        data={"written": written},
        lines=[f"wrote {path}" for path in written],
        failure=Failure(message=message, remediation="Choose another directory."),
        exit_code=REFUSED,
    )


def _root() -> Path:
    """Return where the examples are: inside an installed package, or next to it in a checkout."""
    package = Path(str(buttdial_sync.__file__)).parent
    inside = package / "examples"
    return inside if inside.is_dir() else package.parent / "examples"


def _examples() -> list[Path]:
    root = _root()
    found = sorted(root.iterdir()) if root.is_dir() else []
    return [path for path in found if path.is_dir() and not path.name.startswith((".", "_"))]


def _find(name: str) -> Path:
    """
    Return an example's directory.

    Raises:
        ConfigError: The example does not exist.
    """
    examples = {path.name: path for path in _examples()}
    if name not in examples:
        raise ConfigError(
            f"no example is called {name!r}",
            remediation=f"The examples are {', '.join(examples)}." if examples else None,
        )
    return examples[name]


def _files(directory: Path) -> dict[str, Path]:
    """Return the files of an example, by their paths in it."""
    return {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def _summary(directory: Path) -> str:
    """Return an example's first sentence: of its README, else of its first program."""
    readme = directory / "README.rst"
    if readme.is_file():
        lines = map(str.strip, readme.read_text("utf-8").splitlines())
        return next(filter(None, lines), "")
    for path in _files(directory).values():
        if path.suffix == ".py":
            doc = ast.get_docstring(ast.parse(path.read_text("utf-8")))
            if doc:
                return doc.splitlines()[0]
    return ""
