"""Lists as CSV files that a spreadsheet opens: streamed, with a BOM, and with no cell that it would run."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from unicodedata import normalize
from urllib.parse import quote

from flask import Response, g, stream_with_context
from flask_babel import format_datetime

from lti_tool.database import now

# What a spreadsheet takes for a formula when a cell begins with it, typed wide as East Asian keyboards do
# as well. Where it splits at semicolons, whatever the file says, the text behind one begins a cell too.
_FORMULA = re.compile(r"(^|;)(?=[\s\x00-\x1f]*[=+\-@＝＋－＠]|[\t\r\n])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")
# Rows that are sent together.
_TOGETHER = 500


def harmless(cell: Any) -> Any:
    """A cell as it may stand in a file that a spreadsheet opens: an apostrophe keeps text text."""
    return _CONTROL.sub(" ", _FORMULA.sub(r"\1'", cell)) if isinstance(cell, str) else cell


def csv_response(filename: str, header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Response:
    """A CSV file to keep; `rows` may be endless, since they are sent as they come.

    Cells are text, numbers or None. `rows` may ask the database: the request lasts until the last of them.
    """
    response = Response(stream_with_context(_lines(header, rows)), mimetype="text/csv")
    plain = normalize("NFKD", filename).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^\w.-]+", "-", plain).strip("-")
    response.headers["Content-Disposition"] = (
        f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
    )
    return response


def file_name(subject: str) -> str:
    """How a file is called: the account, what it holds, and the day."""
    account = re.sub(r"[^\w.-]+", "-", g.account.name).strip("-")
    return f"{account}-{subject}-{format_datetime(now(), 'yyyy-MM-dd')}.csv"


def _lines(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    text = io.StringIO()
    write = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC).writerow
    # Without this mark a spreadsheet reads UTF-8 as something else.
    text.write("\ufeff")
    write([harmless(str(cell)) for cell in header])
    held = 0
    for row in rows:
        write([harmless("" if cell is None else cell) for cell in row])
        held += 1
        if held == _TOGETHER:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
            held = 0
    yield text.getvalue().encode()
