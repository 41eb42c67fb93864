"""Score NanoAOD in a coffea processor: select events, score them, cut on the score, histogram.

Shows that a scorer is called like any function of the events, whatever executes the processor. Run
it with a model of your own, and files with the collections that it was trained on.
"""

import argparse

import awkward as ak
import hist
from coffea import processor
from distributed import Client

import tracksets as ts


class Analysis(processor.ProcessorABC):
    """Events with two jets or more: their scores, and the leading jet of those with a high one."""

    def __init__(self, scorer: ts.Scorer) -> None:
        self.scorer = scorer

    def process(self, events: ak.Array) -> dict[str, hist.Hist]:
        dataset = events.metadata["dataset"]
        events = events[ak.num(events.Jet) >= 2]
        events["score"] = self.scorer(events)
        chosen = events[events.score > 0.5]

        axis = hist.axis.StrCategory([], growth=True, name="dataset")
        score = hist.Hist(axis, hist.axis.Regular(20, 0, 1, name="score"))
        jet_pt = hist.Hist(axis, hist.axis.Regular(50, 0, 250, name="pt", label="jet $p_T$ [GeV]"))
        score.fill(dataset, events.score)
        jet_pt.fill(dataset, ak.max(chosen.Jet.pt, axis=1))
        return {"score": score, "jet_pt": jet_pt}


def main(model: str, files: list[str], dask: bool) -> None:
    """Process the files on two workers and print what is left of the events."""
    client = Client(n_workers=2, threads_per_worker=1) if dask else None
    executor = (
        processor.DaskExecutor(client=client) if dask else processor.FuturesExecutor(workers=2)
    )
    run = processor.Runner(executor)
    counts = run({"mine": {"files": dict.fromkeys(files, "Events")}}, Analysis(ts.load(model)))
    print(f"events with two jets: {counts['score'].sum():.0f}")
    print(f"with score > 0.5: {counts['jet_pt'].sum(flow=True):.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--dask", action="store_true", help="on Dask instead of local processes")
    arguments = parser.parse_args()
    main(arguments.model, arguments.files, arguments.dask)
