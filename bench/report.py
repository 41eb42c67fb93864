"""Results in; JSON files, and the tables and the picture of `docs/benchmarks.md` out."""

import datetime as dt
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench import harness

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"
TITLES = {"score": "Scoring", "train": "Training"}
TABLES = {
    "cores": "Two cores",
    "growth": "Arrays of any size",
    "start": "Fresh processes",
}
ORDER = (
    "tracksets",
    "whole block, BCOO",
    "whole block, segment sum",
    "whole block, dense matrix",
    "padded, JAX",
    "PyTorch packed",
    "PyTorch packed, bfloat16",
    "PyTorch padded",
    "EnergyFlow PFN",
    "weaver PFN",
    "ONNX Runtime",
)


def keep(result: dict[str, Any], results: Path = RESULTS, docs: Path = DOCS) -> None:
    """Write the result of one contest, print it, and make the page from all that there are."""
    for case in result["cases"]:
        harness.show(f"{TITLES[result['task']]}, {_title(case)}", list(_rows(case)))
    _keep(result, results, docs)


def keep_tables(
    task: str,
    tables: Mapping[str, list[dict[str, str]]],
    rounds: int,
    results: Path = RESULTS,
    docs: Path = DOCS,
) -> None:
    """Do so with tables, by title."""
    for title, rows in tables.items():
        harness.show(f"{TABLES[task]}{title and ', '}{title}", rows)
    _keep({"task": task, "rounds": rounds, "tables": tables}, results, docs)


def _keep(result: dict[str, Any], results: Path, docs: Path) -> None:
    result["date"] = dt.datetime.now(dt.UTC).date().isoformat()
    result["machine"] = machine()
    results.mkdir(exist_ok=True)
    (results / f"{result['task']}.json").write_text(json.dumps(result, indent=1) + "\n")
    kept = [
        json.loads(path.read_text())
        for task in (*TITLES, *TABLES)
        if (path := results / f"{task}.json").is_file()
    ]
    (docs / "benchmarks.md").write_text(page(kept))
    try:
        draw([each for each in kept if "cases" in each], docs / "benchmarks.svg")
    except ImportError:
        print("no picture: matplotlib is not installed")


def machine() -> str:
    """Name the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":")[1].strip() for line in text.splitlines() if "model name" in line]
    amx = ", AMX" if "amx_bf16" in text else ""
    return f"{names[0] if names else platform.machine()}, {len(names)} cores{amx}"


def _title(case: Mapping[str, Any]) -> str:
    cores = "1 core" if case["cores"] == 1 else f"{case['cores']} cores"
    return f"{case['network']}, {case['multiplicities']}, {cores}"


def ratios(case: Mapping[str, Any], how: str) -> dict[str, float]:
    """Return how many times as long each contestant takes as tracksets."""
    suffix = f"|{how}" if how else ""
    seconds = case["seconds"]
    names = [name for name in ORDER if name + suffix in seconds]
    return {name: seconds[name + suffix] / seconds["tracksets" + suffix] for name in names}


def _rows(case: Mapping[str, Any]) -> Iterable[dict[str, str]]:
    hows = ("network", "call") if "tracksets|network" in case["seconds"] else ("",)
    for name in ORDER:
        row = {"": name}
        for how in hows:
            key = f"{name}|{how}" if how else name
            if key not in case["seconds"]:
                continue
            seconds = case["seconds"][key]
            row[f"{how} Mtracks/s"] = f"{case['tracks'] / seconds / 1e6:.3f}"
            row[f"{how} x"] = f"{ratios(case, how)[name]:.1f}"
        if len(row) > 1:
            yield row


def _of_limit(case: Mapping[str, Any], limit: str) -> float:
    """Return the part of the time that the products alone take; three times forth in training."""
    trained = "tracksets" in case["seconds"]
    seconds = case["seconds"]["tracksets" if trained else "tracksets|network"]
    return (3 if trained else 1) * float(case[limit]) / seconds


def page(results: Iterable[Mapping[str, Any]]) -> str:
    """Write the page."""
    lines = [_HEAD]
    for result in results:
        task = result["task"]
        lines += [f"## {TITLES.get(task) or TABLES[task]}\n", _TEXT[task] + "\n"]
        versions = f" {'; '.join(result['versions'].values())}." if "versions" in result else ""
        lines.append(
            f"{result['date']}, {result['machine']}, medians of {result['rounds']} rounds."
            f"{versions}\n"
        )
        lines += _contest(result) if "cases" in result else _tables(result["tables"])
    return "\n".join(lines)


def _tables(tables: Mapping[str, list[dict[str, str]]]) -> Iterable[str]:
    for title, rows in tables.items():
        if title:
            yield f"### {title.replace('|', '→')}\n"
        yield _row(rows[0])
        yield "| --- |" + " ---: |" * (len(rows[0]) - 1)
        yield from (_row(row.values()) for row in rows)
        yield ""


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _contest(result: Mapping[str, Any]) -> Iterable[str]:
    hows = ("network", "call") if result["task"] == "score" else ("",)
    yield from (f"Not compared: {each}.\n" for each in result["missing"])
    found = [ratios(case, how) for case in result["cases"] for how in hows]
    others = [name for name in ORDER[1:] if any(name in each for each in found)]
    for how in hows:
        if how:
            yield f"### {_HOW[how]}\n"
        head = ["network, multiplicities", "cores", "tracks/s"]
        if how != "call":
            head += ["of 2048³", "of own shapes"]
        head += [f"× {name}" for name in others]
        yield _row(head)
        yield "| --- |" + " ---: |" * (len(head) - 1)
        for case in result["cases"]:
            seconds = case["seconds"]["tracksets" + (f"|{how}" if how else "")]
            cells = [
                f"{case['network'].replace('|', '→')}, {case['multiplicities']}",
                f"{case['cores']}",
                f"{case['tracks'] / seconds / 1e6:.2f} M",
            ]
            if how != "call":
                cells += [f"{_of_limit(case, which):.0%}" for which in ("limit", "limit_shapes")]
            times = ratios(case, how)
            cells += [f"{times[name]:.1f}" if name in times else "–" for name in others]
            yield _row(cells)
        yield ""
    if result["task"] == "score":
        worst: dict[str, float] = {}
        for case in result["cases"]:
            for name, value in case["differences"].items():
                worst[name] = max(worst.get(name, 0.0), value)
        said = ", ".join(f"{name} {worst[name]:.0e}" for name in ORDER if name in worst)
        yield (
            "Largest deviation of an output, in units of the outputs' spread (ONNX Runtime and "
            f"weaver: of a score): {said}.\n"
        )


_HEAD = """# Benchmarks

How fast tracksets scores and trains, beside other ways to do the same. The contestants take turns, round by round, bound to the same cores, and their medians are compared. Only ratios within a run mean something. The same weights are loaded into all of them, and their outputs are compared. To repeat it on your machine:

```console
$ make bench                                                       # everything
$ .venv/bin/python -m bench scoring training cores growth start    # this page
```

PyTorch and ONNX Runtime run if they are installed. EnergyFlow, which needs an older NumPy, and weaver get environments of their own, which the script makes, unless `TRACKSETS_ENERGYFLOW` and `TRACKSETS_WEAVER` name a Python that has them. What is missing is named. weaver, from files to files, is also compared by `python -m bench labelling`.

![Time of each contestant over that of tracksets](benchmarks.svg)

*of 2048³* is the time that the matrix products alone would take at the rate that this processor reaches for float32 matrices of 2048 × 2048, measured in the same run; *of own shapes* the same at the rate of its cores for the network's own layers, a thousand tracks at a time. *× name* is the time of that contestant over that of tracksets: more than 1 means that tracksets is faster. Networks are phi → rho. Multiplicities: `constant` is 40 tracks per event, `jets` 43 in the mean and at most 130, `exponential` 40 in the mean and about 400 at most, `zipf` has a tail up to 20,000. A dash means too large to pad, or to multiply by a dense matrix.
"""
_HOW = {"network": "The network alone", "call": "From awkward arrays"}
_TEXT = {
    "score": """tracksets packs blocks of 16,384 tracks; so do the *whole block* forms, which run phi over a block at once and then multiply by the pooling matrix (the plain form of the idea), add up segments, or multiply by a dense matrix. PyTorch sums packed tracks with `index_add_`, in batches of 4,096, 16,384 or 65,536 tracks, or pads events to the largest one; EnergyFlow pads too, in batches of 250, 500 or 1,000 events, and so does weaver, in batches of 128, 512 or 1,024, with a network of our own, as it has no PFN. Each takes the size that is fastest in a try. *The network alone* starts from prepared batches; *from awkward arrays* includes flattening, packing and padding (in place, which is many times faster than `ak.pad_none`); weaver starts from a ROOT file there. What others can gain depends on the processor's libraries: on a Xeon with AMX, packed PyTorch in float32 took 1.4 to 1.8 times as long for 100-100-256 on a core, and 1.6 times for 64-64-64; on the processor of this table, where it reaches 75 % of the rate of 2048³, nobody could be 1.4 times as fast.""",
    "train": """One pass over the events in random order, with steps of about as many events for all, Adam, and binary cross entropy. Making the batches is included, but for the padding, which PyTorch padded and EnergyFlow have done beforehand. The limit counts the products of the way back as twice those of the way forth.""",
    "cores": """How many times as much work two cores do as one, for the network 100-100-256 → 100-100-100 and jets. *Two processes* have a core each and share nothing but the machine: what they lack of 2 is lost to its caches, memory and clock. *One process* is what users run: what it lacks of two processes is lost to sharing out the work. *Products not shared out* is the same with XLA told not to divide single products among threads. By `perf`, two threads that score 100-100-256 keep 1.86 of two cores busy, and each block takes them 12 % more processor time than one thread alone: XLA's thread pool moves parts of products from core to core. Its YNN kernels did so most, so scoring does without them (17 % less time on two cores, 3 % on one; training gains up to 8 % on two, nothing on one, and keeps them). Computing in the thread that asks, without JAX's asynchronous dispatch, gains 8 % more with three threads, but is a setting of the whole process, which is the user's.""",
    "growth": """Arrays of so many tracks in one call, with blocks of 16,384. *Core second* is processor time, which the number of cores and what else the machine does change little; *tracks/s* is by the clock, on all cores. *Adapter* is the share of the processor time of a call that goes into making blocks of the array: looking up columns, flattening, checking and packing them. A float32 in memory is read and written twice there, into the flat matrix that is checked and into the block, where once would be the least; 8 bytes per track beside it, where 4 would be the least, say which event it belongs to (exact tests count what is allocated). *Memory* is what a call takes beyond the array.""",
    "start": """Seconds on the clock from starting a process to its end: the first score loads a model of 100-100-256 → 100-100-100 and scores 1,000 jets in memory; *compiled before* with [JAX's compilation cache](scale.md#in-practice).""",
}


def draw(results: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Draw the ratios of the middle network on jets and on exponential multiplicities."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    panels = [
        (result, case)
        for result in results
        for case in result["cases"]
        if case["cores"] == 1 and case["network"].startswith("100")
        and case["multiplicities"] in ("jets", "exponential")
    ]  # fmt: skip
    if not panels:
        return
    plt.rcParams["svg.hashsalt"] = "tracksets"  # the same picture from the same numbers
    figure = Figure(figsize=(9, 2.6 * -(-len(panels) // 2)), layout="constrained")
    axes = figure.subplots(-(-len(panels) // 2), 2, squeeze=False)
    for axis, (result, case) in zip(axes.flat, panels, strict=False):
        found = ratios(case, "network" if result["task"] == "score" else "")
        names = list(found)[::-1]
        colours = ["C1" if name == "tracksets" else "C0" for name in names]
        bars = axis.barh(names, [found[name] for name in names], color=colours)
        axis.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        axis.set_xscale("log")
        axis.set_xlim(0.3, 3 * max(found.values()))
        axis.tick_params(labelsize=8)
        axis.set_title(f"{TITLES[result['task']]}, {case['multiplicities']}", fontsize=9)
        axis.set_xlabel("time / time of tracksets", fontsize=8)
    figure.suptitle("100-100-256 → 100-100-100, one core", fontsize=10)
    figure.savefig(path, metadata={"Date": None})
