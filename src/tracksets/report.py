"""Headings, texts, tables and pictures in, one HTML file out that needs nothing else.

Whatever comes from data or configuration is escaped, pictures are part of the file, and its policy
forbids a browser to load or run anything.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from tracksets.atomic import appearing

__all__ = ("Report",)

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem;
  font: 1rem/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; }
h1 { font-size: 1.6rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; font-size: 1.25rem; border-bottom: 1px solid #ccc; }
p { max-width: 45rem; overflow-wrap: anywhere; }
.figures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); }
figure { margin: 0; }
img { width: 100%; height: auto; }
figcaption, caption { font-size: .9rem; color: #555; text-align: left; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; vertical-align: top;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1px solid #999; }
tbody tr:nth-child(even) { background: #f5f5f5; }
.list td { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
nav a { margin-right: 1rem; white-space: nowrap; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Report:
    """A page that grows from top to bottom.

    Parameters
    ----------
    title
        Its heading.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._sections: list[str] = []
        self._body: list[str] = []
        self._in_figures = False

    def section(self, heading: str) -> None:
        """Begin a section."""
        self._sections.append(heading)
        self._add(f'<h2 id="s{len(self._sections)}">{escape(heading)}</h2>')

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._add(f"<p>{escape(text)}</p>")

    def table(self, rows: Iterable[Mapping[str, object]], caption: str = "") -> None:
        """Add a table: one row per mapping, whose keys are the columns; numbers to 5 digits."""
        rows = list(rows)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        head = "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = [
            "".join(f"<td>{escape(shown(row.get(name, '')))}</td>" for name in columns)
            for row in rows
        ]
        self._add_table(f"<thead><tr>{head}</tr></thead>", body, caption)

    def facts(self, facts: Mapping[str, object]) -> None:
        """Add a table of names and what they are."""
        body = [
            f"<th>{escape(name)}</th><td>{escape(shown(value))}</td>"
            for name, value in facts.items()
        ]
        self._add_table("", body, "", 'class="list"')

    def figure(self, path: Path, caption: str) -> None:
        """Add a picture, a PNG file; those that follow each other stand side by side."""
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        what = escape(caption)
        picture = (
            f'<figure><img alt="{what}" src="data:image/png;base64,{content}">'
            f"<figcaption>{what}</figcaption></figure>"
        )
        if not self._in_figures:
            self._body.append('<div class="figures">')
            self._in_figures = True
        self._body.append(picture)

    def write(self, path: Path) -> Path:
        """Write the page, or replace it."""
        self._end_figures()
        links = "".join(
            f'<a href="#s{i}">{escape(heading)}</a> ' for i, heading in enumerate(self._sections, 1)
        )
        title = escape(self.title)
        head = (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f"<h1>{title}</h1>\n<nav>{links}</nav>\n"
        )
        with appearing(path, force=True) as temporary:
            text = head + "\n".join(self._body) + "\n</body>\n</html>\n"
            temporary.write_text(text, encoding="utf-8")
        return path

    def _add(self, html: str) -> None:
        self._end_figures()
        self._body.append(html)

    def _add_table(self, head: str, rows: Sequence[str], caption: str, kind: str = "") -> None:
        title = f"<caption>{escape(caption)}</caption>" if caption else ""
        body = "".join(f"<tr>{row}</tr>\n" for row in rows)
        self._add(
            f'<div class="table"><table {kind}>{title}{head}<tbody>\n{body}</tbody></table></div>'
        )

    def _end_figures(self) -> None:
        if self._in_figures:
            self._body.append("</div>")
            self._in_figures = False


def shown(value: object) -> str:
    """Write a value for people.

    >>> [shown(each) for each in (12345, 0.123456789, 3.0, None, "text")]
    ['12,345', '0.12346', '3', '–', 'text']
    """
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.5g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
