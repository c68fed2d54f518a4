"""The integration manual, from the installed package: ``guide``."""

from __future__ import annotations

from importlib import resources

import click

from buttdial_sync.cli.command import ReportingCommand
from buttdial_sync.cli.report import Report


@click.command(cls=ReportingCommand)
def guide() -> Report:
    """Print the integration manual, for people and for code assistants."""
    text = resources.files("buttdial_sync").joinpath("guide.rst").read_text("utf-8")
    return Report(data={"guide": text}, lines=text.splitlines())
