"""Configuration of the documentation, for sphinx-build."""

import os
import re
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from sphinx.application import Sphinx

REPOSITORY = "https://github.com/tracksets/tracksets"

project = "tracksets"
author = "tracksets developers"
copyright = f"2026, {author}"
version = release = installed_version("tracksets")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_figures", "**.ipynb_checkpoints"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "none"
napoleon_google_docstring = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_theme_options = {
    "source_repository": REPOSITORY,
    "source_branch": "main",
    "source_directory": "docs/",
}


def link_to_repository(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    """Point the README's links to files outside docs/ to the repository: they aren't pages here."""
    if path.name == "README.md":
        content[0] = re.sub(
            r"(?<!!)(\[[^\]]+\]\()(?!https?:|mailto:|#|docs/)([^)\s]+)\)",
            rf"\1{REPOSITORY}/blob/main/\2)",
            content[0],
        )


def make_figures(app: Sphinx) -> None:
    """Run the code of pages that show figures, and save what it has drawn up to each of them."""
    (Path(app.srcdir) / "_figures").mkdir(exist_ok=True)
    os.chdir(Path(app.srcdir).parent)
    for page in sorted(Path(app.srcdir).glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if "(_figures/" not in text:
            continue
        names: dict[str, Any] = {"__name__": page.stem}
        found = re.findall(
            r"^```python\n(.*?)^```|\((_figures/\w+\.svg)\)", text, re.DOTALL | re.MULTILINE
        )
        for code, figure in found:
            if code:
                exec(compile(code, page.name, "exec"), names)  # noqa: S102 our own pages
            else:
                plt.savefig(Path(app.srcdir) / figure, bbox_inches="tight")
                plt.close("all")
                plt.rcdefaults()


def setup(app: Sphinx) -> None:
    """Register the hooks above."""
    app.connect("include-read", link_to_repository)
    app.connect("builder-inited", make_figures)
