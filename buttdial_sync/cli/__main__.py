"""``python -m buttdial_sync.cli``."""

from buttdial_sync.cli.app import main

main(prog_name="buttdial-sync")
