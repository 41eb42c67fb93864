"""The code of the documentation's pages runs as it stands, and their links lead somewhere."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import jax
import numpy as np
import pytest
import uproot
from flax import nnx
from helpers import need_openvino
from rootfiles import scorer_for

import tracksets as ts
from tracksets.config import read_config
from tracksets.engines import Engine
from tracksets.errors import ProcessError
from tracksets.export import export

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "index")
ELSEWHERE = {"coffea": "test_coffea.py", "dask": "test_dask.py"}
"""Pages whose Python code needs an environment of its own: where it is run."""
NOTEBOOKS = sorted(
    path.stem for path in DOCS.glob("*.md") if path.read_text().startswith("---\nfile_format")
)
SLOW = {"getting_started"}


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="session")
def ready(sample_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with everything that the pages speak of."""
    folder = tmp_path_factory.mktemp("documentation")
    (folder / "sample_data").mkdir()
    for file in sample_data.iterdir():
        text = file.read_bytes()
        if file.suffix == ".toml":
            assert b"epochs = 30" in text or b"[training]" not in text
            text = text.replace(b"epochs = 30", b"epochs = 2")
        (folder / "sample_data" / file.name).write_bytes(text)
    shutil.copy(folder / "sample_data" / "train.toml", folder)
    for name in ("evaluate", "validation"):
        shutil.copy(folder / "sample_data" / "evaluate.toml", folder / f"{name}.toml")
    for name in ("background", "signal", "events"):
        shutil.copy(sample_data / f"{name}.root", folder)
    for name in ("data", "data1", "data2"):
        shutil.copy(sample_data / "events.root", folder / f"{name}.root")
    (folder / "data").mkdir()
    shutil.copy(sample_data / "events.root", folder / "data")
    inputs = read_config(sample_data / "train.toml").inputs
    assert inputs is not None
    scorer = scorer_for(inputs)
    for i, name in enumerate(("model", "b", "c")):
        scorer_for(inputs, seed=i).save(folder / f"{name}.safetensors")
    export(scorer, folder / "model.stablehlo", folder / "data.root")
    ts.label(scorer, folder / "data1.root", folder / "once", mode="friend")
    ts.label(scorer, folder / "sample_data" / "events.root", folder / "labelled")
    (folder / "friend").mkdir()
    (folder / "once" / "data1.root").rename(folder / "friend" / "events.root")
    return folder


def several(scorer: ts.Scorer) -> ts.Scorer:
    """Return a scorer of two models."""
    arrays = {name: np.stack([each, each]) for name, each in scorer.arrays.items()}
    return replace(scorer, arrays=arrays, n_member=2)


def names(folder: Path) -> dict[str, Any]:
    """Return what readers of a page have already: modules, events, a model."""
    events = uproot.open(f"{folder}/sample_data/events.root:Events").arrays()
    scorer = ts.load(folder / "model.safetensors")
    columns = {name: ak.to_numpy(events[name]) for name in ("PV_z", "event")}
    flat = {
        "attention": np.ones(8192, np.float32),
        "latent": np.ones((8192, 3), np.float32),
        "tracks": np.ones((5, scorer.inputs.widths["Track"]), np.float32),
        "counts": np.asarray([2, 3], np.int64),
        "event": np.ones((2, 1), np.float32),
    }
    return {
        "__name__": "page",
        "ts": ts,
        "np": np,
        "ak": ak,
        "uproot": uproot,
        "jax": jax,
        "nnx": nnx,
        **columns,
        **flat,
        "events": events,
        "targets": events.isSignal,
        "weights": events.genWeight,
        "scorer": scorer,
        "inputs": scorer.inputs,
        "params": None,
        "network": lambda block: block.event[:, 0],
        "score": lambda _params, block: block.event[:, 0],
    }


def skip_without_instructions(page: str) -> None:
    """Skip the page on engines where the processor has no instructions for bfloat16."""
    if page == "engines":
        need_openvino()
        try:
            Engine("openvino", "bfloat16").describe()
        except ProcessError as error:
            pytest.skip(str(error))


@pytest.fixture
def page_folder(ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "page"
    shutil.copytree(ready, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW)) for page in PAGES]
)
def test_python(page: str, page_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = blocks(page, "python")
    if page in ELSEWHERE:
        test = (REPOSITORY / "tests" / ELSEWHERE[page]).read_text(encoding="utf-8")
        assert f'"{page}.md"' in test
        return
    skip_without_instructions(page)
    have = names(page_folder)
    if page == "training":  # of ensembles, among others
        have["scorer"] = several(have["scorer"])
    monkeypatch.setenv("MPLBACKEND", "Agg")
    for i, block in enumerate(code):
        exec(compile(block, f"{page}.md, block {i}", "exec"), have)  # noqa: S102 our own pages


def in_shell(line: str) -> None:
    """Run what stands behind a ! in a notebook."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", "-o", "pipefail", "-c", line]
    run = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, f"{line}\n{run.stderr}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Missing cross-reference:RuntimeWarning")
@pytest.mark.parametrize("page", NOTEBOOKS)
def test_notebooks(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each runs in an empty folder, from nothing but the package."""
    if page == "processor":
        pytest.importorskip("coffea", reason="coffea is not installed")
    if page == "first_training":
        pytest.importorskip("IPython", reason="IPython is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    have: dict[str, Any] = {"__name__": page, "in_shell": in_shell}
    cells = blocks(page, "{code-cell}")
    assert cells
    for i, cell in enumerate(cells):
        code = re.sub(r"^!(.*)$", lambda line: f"in_shell({line[1]!r})", cell, flags=re.MULTILINE)
        exec(compile(code, f"{page}.md, cell {i}", "exec"), have)  # noqa: S102 our own pages
    if "plt" in have:
        have["plt"].close("all")
        have["plt"].rcdefaults()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_commands(page: str, page_folder: Path) -> None:
    skip_without_instructions(page)
    program = Path(sys.executable).parent / "tracksets"
    for line in "".join(blocks(page, "console")).splitlines():
        if not line.startswith("$ tracksets ") or "MODEL" in line or "FILE" in line:
            continue  # output, or a synopsis
        if "--resume" in line or "--coordinator" in line or "sample-data" in line:
            continue  # there is nothing to resume, no other machine, and the data are here already
        words = shlex.split(line.partition("#")[0])[2:]
        if words[0] in ("train", "inspect") and "-o" in words:
            Path(words[words.index("-o") + 1]).unlink()  # readers don't have it yet
        expanded = [
            str(each)
            for word in words
            for each in (sorted(Path().glob(word)) if word.endswith("*.root") else [word])
        ]
        run = subprocess.run(
            [str(program), *expanded], cwd=page_folder, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, f"{line}\n{run.stderr}"
        if words[0] == "inspect" and "-o" in words:  # with all epochs, it would take minutes
            config = Path(words[words.index("-o") + 1])
            config.write_text(config.read_text().replace("epochs = 30", "epochs = 2"))


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as MyST and GitHub make them."""
    text = re.sub(
        r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)
    return set(plain)


@pytest.mark.parametrize(
    "path",
    [*DOCS.glob("*.md"), *REPOSITORY.glob("*.md")],
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(
        r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    text = re.sub(r"`[^`\n]*`", "", text)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            here = re.match(r"https://github\.com/tracksets/tracksets/blob/main/([^#]+)", link)
            assert not here or (REPOSITORY / here[1]).exists(), link
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_contents() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = [
        line
        for each in re.findall(r"^$\n((?:^\w+\n)+)```", index, re.MULTILINE)
        for line in each.split()
    ]
    assert sorted(listed) == PAGES


def test_files_that_pages_include_exist() -> None:
    for page in PAGES:
        text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
        for name in re.findall(r"\{(?:literalinclude|include|image|figure)\} (\S+)", text):
            assert (DOCS / name).exists(), f"{page}: {name}"
