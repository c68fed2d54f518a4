"""
Takes the screenshots of the docs: ``python -m tests.hosts.screenshots docs/_static/screenshots``.

It needs Chromium, and writes nothing but the files of the folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Literal

from tests.hosts.admin_rows import PASSWORD
from tests.hosts.admin_site import CHROMIUM, MISSING, PATIENCE, browsing, log_in, served

_LIST = "/admin/buttdial_sync/outboxmessage/"
_PAGES: dict[str, tuple[str, Literal["light", "dark"], int]] = {
    "outbox-list": (_LIST, "light", 620),
    "outbox-row": (f"{_LIST}row-unknown/change/", "light", 900),
    "outbox-row-dark": (f"{_LIST}row-due/change/", "dark", 760),
    "outbox-dashboard": (f"{_LIST}dashboard/", "light", 620),
}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as data,
        served(Path(data)) as (url, _),
        browsing() as browser,
    ):
        for name, (address, scheme, height) in _PAGES.items():
            context = browser.new_context(
                viewport={"width": 1440, "height": height}, color_scheme=scheme, locale="en-US"
            )
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            log_in(page, url, "operator", PASSWORD)
            page.goto(url + address)
            page.screenshot(path=str(folder / f"{name}.png"))
            context.close()


if __name__ == "__main__":
    if CHROMIUM is None:
        sys.exit(MISSING)
    main(Path(sys.argv[1]))
