"""A scorer and files in, labelled files out: the same rows in the same order, nothing lost."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tracksets.errors import ConfigError, TracksetsError, near_misses
from tracksets.expressions import parse
from tracksets.filenames import expand
from tracksets.pipeline import Job, Labelled, Mode
from tracksets.planning import outputs_of, scorers_of
from tracksets.pools import run_here, run_in_processes, run_on_dask
from tracksets.progress import files_bar
from tracksets.scorer import Scorer
from tracksets.writing import Format

__all__ = ("Labelled", "LabellingError", "Report", "label")

_STOPPED = "not tried, because another file failed"


@dataclass(frozen=True)
class Report:
    """What became of all files, in the order of the inputs.

    Attributes
    ----------
    files
        One entry per input.
    seconds
        How long all of it took.
    """

    files: tuple[Labelled, ...]
    seconds: float = 0.0

    @property
    def outputs(self) -> list[Path]:
        """The files that are complete, whether they were written now or there already."""
        return [each.output for each in self.files if each.error is None]

    @property
    def written(self) -> list[Labelled]:
        """What was labelled now."""
        return [each for each in self.files if each.error is None and not each.skipped]

    @property
    def skipped(self) -> list[Labelled]:
        """What had been labelled before by the same model."""
        return [each for each in self.files if each.skipped]

    @property
    def failures(self) -> list[Labelled]:
        """What could not be labelled."""
        return [each for each in self.files if each.error is not None]

    @property
    def events(self) -> int:
        """Events of all files that are complete."""
        return sum(each.events for each in self.files if each.error is None)

    def __str__(self) -> str:
        """Show a table: files, events, those with a score, events per second."""
        n = sum(each.events for each in self.written)
        rows = [
            ("labelled", self.written, f"{n / self.seconds:,.0f}" if n and self.seconds else ""),
            ("there already", self.skipped, ""),
            ("failed", self.failures, ""),
        ]
        lines = [f"{'':14}{'files':>8}{'events':>16}{'with a score':>16}{'events/s':>12}"]
        for what, files, rate in rows:
            events = sum(each.events for each in files)
            scored = f"{sum(each.selected for each in files):,}" if what == "labelled" else ""
            shown = f"{events:,}" if what != "failed" else ""
            lines.append(f"{what:14}{len(files):>8,}{shown:>16}{scored:>16}{rate:>12}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)  # thousands of files are no help in a notebook


class LabellingError(TracksetsError):
    """Some files could not be labelled; `report` says what became of all of them."""

    def __init__(self, report: Report) -> None:
        self.report = report
        tried = [each for each in report.failures if each.error != _STOPPED]
        lines = [f"  {each.source}: {each.error}" for each in tried]
        if rest := len(report.failures) - len(tried):
            lines.append(f"  {rest} more were {_STOPPED}")
        super().__init__(
            f"{len(report.failures)} of {len(report.files)} files could not be labelled\n"
            + "\n".join(lines)
        )

    def __reduce__(self) -> tuple[type["LabellingError"], tuple[Report]]:
        return type(self), (self.report,)


_AnyScorer = Scorer | str | os.PathLike[str]


def label(
    model: _AnyScorer | Mapping[str, _AnyScorer],
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    mode: Mode = "branch",
    format: Format | None = None,  # noqa: A002  # as the option is called
    field: str = "score",
    tree: str | None = None,
    select: str | None = None,
    spread: bool = False,
    vary: Mapping[str, str] | None = None,
    workers: int = 1,
    dask: Any = None,
    engine: str | None = None,
    precision: str = "float32",
    fail_fast: bool = False,
    force: bool = False,
    progress: bool = True,
) -> Report:
    """Score every event of files and write the scores into new files.

    Each output has as many events as its input, in the same order. It appears complete or not at
    all, and a file that fails does not take the others with it. An output that is there already,
    from the same model, input and options, is left as it is; one from another model is made anew.

    Parameters
    ----------
    model
        A scorer, or the name of a model file; or several, by the name of their branch. Branches
        that several models see are read once.
    files
        Names and patterns: `data*.root`, `data.root:Events`.
    output
        The folder for the outputs, which have the names of the inputs; or a pattern for their
        names with `{name}`, `{stem}` (the name without its ending), `{folder}` (that the input is
        in) or `{number}`: `labelled/{folder}/{stem}_scored.root`.
    mode
        `branch`: the input file with the score as one more branch of the tree. `append`: a
        byte-for-byte copy of the input file plus a friend tree `Events_score`. `friend`: that
        tree only, with `run`, `luminosityBlock` and `event` where the input has them.
        `explain`: a friend that also has what each track contributes to the score of one model,
        `Track_score_change` and `Track_score_gradient` (see `Scorer.contributions`).
    format
        What the labelled tree is to be: `root` (a TTree), `rntuple` or `parquet`; by default
        what the input is.
    field
        Name of the branch. Several classes give one branch each: `score_b`, `score_c`.
    tree
        Name of the tree, if it is not said with the file and there are several.
    select
        Expression, one number per event: where it is 0, there is no score. Such events have NaN
        as their score; from a friend they are left out, and `entry` says which are there.
    spread
        Whether models that consist of several (with folds, or an ensemble) also give the spread of
        each score, as in `scorer(events, spread=True)`: as `score_spread`, `score_b_spread`.
    vary
        By name: assignments to branches, `{"up": "Track_pt *= 1.02"}`. The scores of events that
        are shifted so go into a branch of their own, `score_up`.
    workers
        Processes that label files side by side.
    dask
        Address of a Dask scheduler, a cluster or a client that labels instead.
    engine, precision
        What computes, and how precisely: see `Scorer.on`; by default what the scorers say.
    fail_fast
        Whether to stop at the first file that fails.
    force
        Whether outputs, and branches of that name, are replaced.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Report
        What was written.

    Raises
    ------
    ConfigError, FileError, ModelError
        Before anything is written: no such mode or file, an output equals its input, the spread of
        a single model.
    LabellingError
        After all files were tried, if some failed.
    """
    begin = time.perf_counter()
    for what, value, known in (("mode", mode, Mode), ("format", format, Format)):
        if value is not None and value not in get_args(known):
            raise ConfigError(f"no {what} {value!r}: {near_misses(str(value), get_args(known))}")
    if mode == "append" and format == "parquet":
        raise ConfigError("a Parquet file holds one table only; use mode friend or branch")
    if select is not None:
        parse(select)
    if dask is not None and workers > 1:
        raise ConfigError("the workers of a Dask cluster are its own; leave out --workers")
    scorers = scorers_of(model, field, spread, vary or {})
    other = len(scorers) > 1 or select is not None or spread or engine not in (None, "jax")
    if mode == "explain" and other:
        raise ConfigError("mode explain takes one model, explains all events, and computes by JAX")
    if engine is not None:
        scorers = {name: each.on(engine, precision) for name, each in scorers.items()}
    elif precision != "float32":
        raise ConfigError(f"precision {precision!r} needs an engine that has it: openvino")
    jobs = [
        Job(source, target, tree, mode, format, select, force, spread)
        for source, target in outputs_of(expand(files), os.fspath(output), format)
    ]
    if dask is not None:
        running = run_on_dask(scorers, jobs, dask)
    elif workers > 1 and len(jobs) > 1:
        running = run_in_processes(scorers, jobs, workers)
    else:
        running = run_here(scorers, jobs)
    results: dict[str, Labelled] = {}
    with files_bar("labelling", len(jobs), progress) as advance:
        for result in running:
            results[result.source] = result
            advance(result.events)
            if fail_fast and result.error is not None:
                running.close()  # type: ignore[attr-defined]  # they are generators
                break
    missing = (Labelled(job.source, job.output, error=_STOPPED) for job in jobs)
    report = Report(
        tuple(results.get(each.source, each) for each in missing), time.perf_counter() - begin
    )
    if report.failures:
        raise LabellingError(report)
    return report
