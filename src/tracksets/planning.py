"""Models and names of files in; which fields are written, and what becomes which file, out."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracksets.chunks import Scorers, branches_of
from tracksets.errors import ConfigError, FileError, near_misses
from tracksets.filenames import is_remote, split_name
from tracksets.parquet import is_parquet
from tracksets.scorer import loaded
from tracksets.writing import Format

__all__ = ("outputs_of", "scorers_of")

_PLACES = ("name", "stem", "folder", "number")


def scorers_of(model: Any, field: str, spread: bool, vary: Mapping[str, str]) -> Scorers:
    """Load the models, by field; complain once about names, not for every file."""
    several = isinstance(model, Mapping)
    if several and field != "score":
        raise ConfigError("several models have their names as fields; leave out --field")
    if several and not model:
        raise ConfigError("there is no model")
    scorers = {
        str(name): loaded(each) for name, each in (model if several else {field: model}).items()
    }
    scorers |= {
        f"{name}_{shift}": scorer.varied(text)
        for name, scorer in scorers.items()
        for shift, text in vary.items()
    }
    taken: set[str] = set()
    for name, scorer in scorers.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise ConfigError(f"{name!r} cannot be the name of a branch: use letters, digits and _")
        scorer.check_spread(spread)
        names = branches_of(name, scorer, spread)
        if taken & set(names):
            raise ConfigError(f"two models would write the branch {min(taken & set(names))!r}")
        taken.update(names)
    return scorers


def outputs_of(sources: list[str], output: str, kind: Format | None) -> Iterator[tuple[str, Path]]:
    """Pair every input with its output; refuse collisions before anything is written."""
    taken: dict[Path, str] = {}
    for number, source in enumerate(sources):
        path, _ = split_name(source)
        target = _output(path, output, number, kind)
        if target in taken:
            raise FileError(
                f"{taken[target]} and {source} would both become {target}; label them into "
                "different folders, or with {folder} or {number} in the output's name"
            )
        taken[target] = source
        if not is_remote(path) and target.exists() and target.samefile(path):
            raise FileError(f"the output {target} is the input itself; choose another folder")
        if target.is_dir():
            raise FileError(f"{target} is a folder; expected the name of a file to write")
        yield source, target


def _output(path: str, output: str, number: int, kind: Format | None) -> Path:
    source = Path(path)
    ending = source.suffix
    if kind is not None and is_parquet(path) != (kind == "parquet"):
        ending = ".parquet" if kind == "parquet" else ".root"
    if "{" not in output and "}" not in output:
        return Path(output) / (source.stem + ending)
    values = {
        "name": source.stem + ending,
        "stem": source.stem,
        "folder": source.parent.name,
        "number": str(number),
    }

    def fill(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ConfigError(
                f"output {output}: no {{{match[1]}}}: {near_misses(match[1], _PLACES)}"
            )
        return values[match[1]]

    target = Path(re.sub(r"\{(.*?)\}", fill, output))
    if is_parquet(target.name) != is_parquet(f"x{ending}"):
        raise ConfigError(f"output {output}: the name of such a file ends in {ending}")
    return target
