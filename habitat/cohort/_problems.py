"""What is wrong with a cohort's table and files, as one table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from habitat.errors import HabitatError

if TYPE_CHECKING:
    import pandas as pd

ERROR, WARNING = "error", "warning"


class Problem(NamedTuple):
    """One problem; an error in a row keeps its case from being used."""

    row: int  # line of the file as a spreadsheet counts, 0 for the whole table
    case_id: str
    column: str
    level: str  # "error" or "warning"
    kind: str  # class of the error
    message: str
    fix: str = ""

    @classmethod
    def of(
        cls, error: HabitatError, row: int = 0, case_id: str = "", column: str = ""
    ) -> Problem:
        """Keep an error as a row of the table."""
        head = f"{error.where}: {error.what}" if error.where else error.what
        kind = type(error).__name__
        return cls(row, case_id, column, ERROR, kind, head, error.fix)


def table_of(problems: Iterable[Problem]) -> pd.DataFrame:
    """Problems as a table, in the order of the rows."""
    import pandas as pd

    ordered = sorted(problems, key=lambda p: p.row)
    table: pd.DataFrame = pd.DataFrame(ordered, columns=list(Problem._fields))
    return table
