"""Pages to look at in a browser: the HTML templates of the assets, in one style, without a network."""

import html
from collections.abc import Mapping
from pathlib import Path
from string import Template

from cropformer import atomic_path

_ASSETS = Path(__file__).parents[1] / "assets"

Numbers = Mapping[str, str]


def write_page(path: Path, template: str, values: Mapping[str, str]) -> None:
    """Write a page.

    Args:
        path: the HTML file.
        template: name of a template in the assets.
        values: name in the template → HTML; ``$style`` is the style of all pages.
    """
    style = (_ASSETS / "page.css").read_text(encoding="utf-8")
    page = Template((_ASSETS / template).read_text(encoding="utf-8")).substitute(values, style=style)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def number_list(numbers: Numbers) -> str:
    """Numbers as the items of an HTML description list."""
    items = (f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in numbers.items())
    return "\n  ".join(items)
