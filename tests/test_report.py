"""One HTML file that needs nothing else, and in which nothing of the data is code."""

import base64
from html.parser import HTMLParser

import pytest

from tracksets.errors import FileError
from tracksets.report import Report

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
NASTY = '<script>alert(\'x\')</script>" onload="x" & </td>'


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style" and data.strip():
            self.words.append(data)

    def all(self, tag):
        return [attributes for each, attributes in self.tags if each == tag]


def read(report, folder) -> Page:
    path = report.write(folder / "report.html")
    return Page(path.read_text(encoding="utf-8"))


def test_what_is_put_in_is_there(tmp_path):
    (tmp_path / "p.png").write_bytes(PNG)
    report = Report("Title")
    report.section("One")
    report.facts({"events": 12345, "loss": 0.123456, "nothing": None})
    report.figure(tmp_path / "p.png", "left")
    report.figure(tmp_path / "p.png", "right")
    report.section("Two")
    report.text("Words.")
    report.table([{"a": 1, "b": 2.0}, {"a": 3, "c": "x"}], "Caption")
    report.figure(tmp_path / "p.png", "alone")
    page = read(report, tmp_path)
    expected = "Title Title One Two One events 12,345 loss 0.12346 nothing – left right Two Words."
    assert [word.strip() for word in page.words] == [
        *expected.split(),
        *("Caption", "a", "b", "c", "1", "2", "3", "x", "alone"),
    ]
    assert [each.get("class") for each in page.all("div")] == [
        *("table", "figures", "table", "figures")
    ]
    for image in page.all("img"):
        kind, _, content = image["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(content) == PNG
        assert image["alt"] in ("left", "right", "alone")
    targets = {each.get("id") for each in page.all("h2")}
    assert {each["href"] for each in page.all("a")} == {f"#{name}" for name in targets}


def test_everything_is_escaped(tmp_path):
    (tmp_path / "p.png").write_bytes(PNG)
    report = Report(NASTY)
    report.section(NASTY)
    report.text(NASTY)
    report.facts({NASTY: NASTY})
    report.table([{NASTY: NASTY}], NASTY)
    report.figure(tmp_path / "p.png", NASTY)
    page = read(report, tmp_path)
    assert page.all("script") == []
    assert all("onload" not in attributes for _, attributes in page.tags)
    assert [image["alt"] for image in page.all("img")] == [NASTY]
    assert page.words.count(NASTY) == 2 + 2 + 1 + 2 + 3 + 1


def test_nothing_is_loaded(tmp_path):
    report = Report("Title")
    page = read(report, tmp_path)
    [policy] = [each for each in page.all("meta") if "http-equiv" in each]
    assert policy["content"].startswith("default-src 'none'")
    assert page.all("link") == page.all("script") == []


def test_it_is_replaced_whole(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    Report("new").write(path)
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    (tmp_path / "file").touch()
    with pytest.raises(FileError):
        Report("new").write(tmp_path / "file" / "report.html")
