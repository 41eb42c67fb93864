"""Run the benchmarks: `python -m bench`, or some of them: `python -m bench scoring`."""

import sys
from importlib import import_module

BENCHMARKS = (
    "scoring",
    "training",
    "engines",
    "growth",
    "start",
    "coffea",
    "real_data",
    "labelling",
    "streaming",
)
HOURS = ("models",)  # take too long to be run unasked


def main() -> None:
    """Run the benchmarks that are named, or all."""
    names = sys.argv[1:] or BENCHMARKS
    for name in names:
        if name not in BENCHMARKS + HOURS:
            sys.exit(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS + HOURS)}")
        import_module(f"bench.{name}").main()


main()
