"""Train on events: one pass in steps of about as many events, making batches included."""

from bench import contest, harness, report
from bench.scoring import NETWORKS


def main(rounds: int = harness.ROUNDS, scale: float = 1.0) -> None:
    """Measure all contestants."""
    names = list(NETWORKS)
    sizes = dict(zip(names, (6_000, 2_700, 1_150), strict=True))

    def field(name: str, kind: str) -> contest.Field:
        return contest.Field(name, NETWORKS[name], kind, int(sizes[name] * scale))

    kinds = ("jets", "exponential")
    fields = [(field(name, kind), 1) for name in names for kind in kinds]
    fields += [(field(names[1], kind), 2) for kind in kinds]
    report.keep(contest.contest("train", fields, rounds))
