"""The command line: ``buttdial-sync``."""

from buttdial_sync.cli.app import main as main
