"""The rows of a CSV file, checked and kept on disk, so that a file may have millions of them."""

from __future__ import annotations

import csv
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import attrs

from buttdial_sync.calls.recipients import RecipientCheck
from buttdial_sync.cli.progress import Progress
from buttdial_sync.errors import ConfigError
from buttdial_sync.models.failed import FailedMessage
from buttdial_sync.models.message import HELP
from buttdial_sync.retry.rows import check_message

COLUMNS = frozenset(HELP) - {"idempotency_key"} | {"id"}
_FAULTS_SHOWN = 20
_DIGITS_OF_CONTENT = 20
_DIGITS_OF_CAMPAIGN = 8
_DIGITS_OF_ROW = 24
_DIGITS_OF_FORMER_ID = 32
_CACHE_KIB = 16_000
_RECIPIENTS = RecipientCheck()


@attrs.frozen
class MadeId:
    """
    An id that was made from a row and its campaign.

    Attributes:
        of_content: How ids begin whose rows have this text and recipient, in any campaign.
        of_campaign: How those of this campaign begin.
        rest: The rest of the id.
        former: The id that a release without campaigns gave to such a row.
    """

    of_content: str
    of_campaign: str
    rest: str
    former: str

    @property
    def all_of_content(self) -> tuple[str, str]:
        """
        The least and the greatest id of this content.

        They are as long as all that lie between them, because databases compare texts of different
        lengths each in its own way.
        """
        digits = _DIGITS_OF_CAMPAIGN, _DIGITS_OF_ROW
        low, high = ("-".join(digit * count for count in digits) for digit in "0f")
        return self.of_content + low, self.of_content + high


class FileFaultError(ConfigError):
    """Rows of the file cannot be sent; the message names them."""


@attrs.frozen
class FileRow:
    """
    A row of the file.

    Attributes:
        message: What is to be sent, under the id that it has in the outbox.
        made: How its id was made; None where the file gives the id.
    """

    message: FailedMessage
    made: MadeId | None


class FileRows(AbstractContextManager["FileRows"]):
    """
    The valid rows of a file, on disk and not in memory. Rows that are equal are one.

    Args:
        campaign: Is a part of the ids of rows without one.
        agent_id: Who sends.
        channel: The channel of rows without one, as if it were in them; None for the default.
    """

    def __init__(self, campaign: str, agent_id: str | None, channel: str | None = None) -> None:
        self._campaign = campaign
        self._channel = channel
        self._agent_id = agent_id
        # Without a name SQLite keeps what does not fit into its cache in a temporary file.
        self._kept = sqlite3.connect("", isolation_level=None)
        self._kept.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._kept.execute("PRAGMA journal_mode = OFF")
        self._kept.execute("CREATE TABLE kept (id TEXT PRIMARY KEY, row TEXT NOT NULL)")
        self._kept.execute("BEGIN")

    def __len__(self) -> int:
        return int(self._kept.execute("SELECT count(*) FROM kept").fetchone()[0])

    def __exit__(self, *_: object) -> None:
        self._kept.close()

    def read(self, path: str, progress: Progress) -> None:
        """
        Read and check a whole file.

        Args:
            path: A CSV file, UTF-8, with a header.
            progress: Is told how far it is.

        Raises:
            FileFaultError: A row cannot be sent, the file is not a CSV file, or there is no space.
        """
        try:
            self._read(path, progress)
        except sqlite3.Error as error:
            raise FileFaultError(
                f"the rows cannot be kept in a temporary file: {error}; nothing was sent",
                remediation="Free some space, or set TMPDIR to a directory that has it.",
            ) from None

    def _read(self, path: str, progress: Progress) -> None:
        faults: list[str] = []
        count = 0
        progress.tell("Checking", 0)
        for number, cells in _rows(path):
            progress.tell("Checking", number - 1)
            try:
                self._keep(cells)
            except ConfigError as error:
                count += 1
                if count <= _FAULTS_SHOWN:
                    faults.append(f"row {number}: {error.message}")
        if count:
            more = f"\n... and {count - _FAULTS_SHOWN} more" * (count > _FAULTS_SHOWN)
            raise FileFaultError(
                f"{count} rows cannot be sent; nothing was sent. {'; '.join(faults)}{more}",
                remediation="Correct these rows and run it again.",
            )

    def portions(self, size: int) -> Iterator[list[FileRow]]:
        """Return the rows in their order, so many at a time."""
        found = self._kept.execute("SELECT row FROM kept ORDER BY rowid")
        while portion := [self._row(json.loads(row)) for (row,) in islice(found, size)]:
            yield portion

    def _keep(self, cells: dict[str, str]) -> None:
        given = {name: value for name, value in cells.items() if value != ""}
        if self._channel is not None:
            given.setdefault("channel", self._channel)
        row = self._row(given)
        check_message(row.message)
        if row.made is None:
            given["to"] = row.message.recipient
        msg_id, text = row.message.id, json.dumps(given, sort_keys=True)
        kept = self._kept.execute("INSERT OR IGNORE INTO kept VALUES (?, ?)", (msg_id, text))
        if kept.rowcount or row.made is not None:
            return
        same = self._kept.execute("SELECT row FROM kept WHERE id = ?", (msg_id,)).fetchone()
        if same[0] != text:
            raise FileFaultError(f"the id {msg_id!r} is used by another row")

    def _row(self, given: dict[str, Any]) -> FileRow:
        fields = {name: value for name, value in given.items() if name != "id"}
        former = f"row-{_hash(fields)[:_DIGITS_OF_FORMER_ID]}"
        # The same person in another file, or in another line, may be written with other blanks.
        if "to" in fields:
            channel = fields.get("channel", "whatsapp")
            fields["to"] = _RECIPIENTS.normalized(fields["to"], channel)
        made = None if "id" in given else self._made_id(fields, former)
        msg_id = given["id"] if made is None else made.of_campaign + made.rest
        message = FailedMessage(
            id=msg_id,
            recipient=fields.pop("to", ""),
            body=fields.pop("body", ""),
            idempotency_key=msg_id,
            agent_id=self._agent_id,
            **fields,
        )
        return FileRow(message, made)

    def _made_id(self, fields: dict[str, Any], former: str) -> MadeId:
        content = _hash([fields.get("to"), fields.get("body")])[:_DIGITS_OF_CONTENT]
        campaign = _hash(self._campaign)[:_DIGITS_OF_CAMPAIGN]
        return MadeId(
            of_content=f"row-{content}-",
            of_campaign=f"row-{content}-{campaign}-",
            rest=_hash([self._campaign, fields])[:_DIGITS_OF_ROW],
            former=former,
        )


def _rows(path: str) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, restval="")
            _check_header(reader.fieldnames or ())
            for number, row in enumerate(reader, 2):
                if None in row:
                    raise FileFaultError(f"row {number} has more cells than the header")
                yield number, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileFaultError(
            f"{path} is not a CSV file: {error}",
            remediation="Save it as CSV, UTF-8, with a header.",
        ) from None


def _check_header(names: Sequence[str]) -> None:
    if "to" not in names:
        raise FileFaultError("row 1: the header has no column to")
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or len(set(names)) < len(names):
        raise FileFaultError(
            f"row 1: unknown or repeated columns: {', '.join(map(repr, unknown or names))}",
            remediation=f"Columns are {', '.join(sorted(COLUMNS))}.",
        )


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
