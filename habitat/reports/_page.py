"""A page: sections of blocks that one template turns into one offline HTML file."""

from __future__ import annotations

import base64
import datetime
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jinja2

import habitat

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Status = Literal["green", "amber", "red"]

WORDS: dict[str, str] = {
    "green": "no warning",
    "amber": "read the warnings",
    "red": "do not use before the problems are mended",
}
SIGNS: dict[str, str] = {
    "green": "\N{CHECK MARK}",
    "amber": "!",
    "red": "\N{CROSS MARK}",
}


@dataclass(frozen=True)
class Link:
    """A cell or word that leads somewhere: a section (``#id``) or a file beside."""

    text: str
    href: str


@dataclass(frozen=True)
class Text:
    """A paragraph; `kind` "lead" for the one-line answer, "small" for remarks."""

    text: str
    kind: str = ""
    template: ClassVar[str] = "text"


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    rows: Sequence[tuple[str, Any]]
    template: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Notes:
    """Warnings in words."""

    texts: Sequence[str]
    template: ClassVar[str] = "notes"


@dataclass(frozen=True)
class Code:
    """Text to copy: a command, methods, settings."""

    text: str
    caption: str = ""
    template: ClassVar[str] = "code"


@dataclass(frozen=True)
class Table:
    """Cells as text, `Link` or `Swatch`; a click on a head sorts."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    template: ClassVar[str] = "table"


@dataclass(frozen=True)
class Swatch:
    """A cell with a color before the text."""

    text: str
    color: str  # "#rrggbb"


@dataclass(frozen=True)
class Picture:
    """A PNG inside the page, with words for those who do not see it."""

    png: bytes
    alt: str
    caption: str = ""
    width: str = "100%"  # of the page, on paper and on a desktop
    template: ClassVar[str] = "picture"

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Tile:
    """A small JPEG of one case, with a rating."""

    case_id: str
    jpeg: bytes
    words: str = ""
    href: str | None = None

    @property
    def uri(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


@dataclass(frozen=True)
class Mosaic:
    """Many cases at a glance, each to keep or not; the ratings can be saved."""

    tiles: Sequence[Tile]
    template: ClassVar[str] = "mosaic"


@dataclass(frozen=True)
class Row:
    """Blocks side by side; below each other where the page is narrow."""

    blocks: Sequence[Any]
    only_print: bool = False  # side by side on paper, large on a screen
    template: ClassVar[str] = "row"


@dataclass(frozen=True)
class Section:
    """A numbered part of the page."""

    id: str
    title: str
    blocks: Sequence[Any]
    new_page: bool = False  # on paper


@dataclass(frozen=True)
class Page:
    """All that one file shows."""

    title: str
    status: Status
    warnings: Sequence[str]
    sections: Sequence[Section]
    about: str = ""  # under the title
    links: Sequence[Link] = field(default_factory=tuple)  # files beside


def template(name: str) -> jinja2.Template:
    """A template of this package; what it is given is text, not HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("habitat.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def render(page: Page) -> str:
    """Turn a page into HTML: no file, font or script from elsewhere."""
    return template("page.html").render(
        page=page,
        sign=SIGNS[page.status],
        word=WORDS[page.status],
        version=habitat.__version__,
        date=today(),
        is_link=lambda cell: isinstance(cell, Link),
        is_swatch=lambda cell: isinstance(cell, Swatch),
    )


def today() -> str:
    """The only part of a page that another day changes."""
    return datetime.date.today().isoformat()


def picture(
    figure: Figure, alt: str, caption: str = "", *, dpi: int = 150, width: str = "100%"
) -> Picture:
    """A figure as a block; the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(
        stream, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None}
    )
    return Picture(stream.getvalue(), alt, caption, width)


def table(data: pd.DataFrame, caption: str = "", digits: int = 3) -> Table:
    """A table of a DataFrame; numbers with so many significant digits."""
    rows = [
        [cell(value, digits) for value in row]
        for row in data.itertuples(index=False, name=None)
    ]
    return Table([str(name) for name in data.columns], rows, caption)


def cell(value: Any, digits: int = 3) -> Any:
    """Text of a value: what is not there is a dash, numbers are short."""
    if isinstance(value, (Link, Swatch, str)):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "\N{EN DASH}"
    if isinstance(value, float) or hasattr(value, "dtype"):
        number = float(value)
        if math.isnan(number):
            return "\N{EN DASH}"
        text = f"{number:.{digits}g}" if abs(number) < 10**digits else f"{number:.0f}"
        return text.replace("-", "\N{MINUS SIGN}")
    return str(value)


def hex_color(color: Iterable[float]) -> str:
    """``#rrggbb`` of red, green and blue from 0 to 1."""
    return "#" + "".join(f"{round(255 * c):02x}" for c in color)
