"""Run the benchmarks: `python -m bench`, or some of them: `python -m bench scoring`."""

import subprocess
import sys
from importlib import import_module

BENCHMARKS = (
    "scoring",
    "training",
    "engines",
    "cores",
    "growth",
    "start",
    "coffea",
    "real_data",
    "labelling",
    "streaming",
    "seeds",
)
UNASKED = ("models", "calibration")  # take long, and need files that are not there


def main() -> None:
    """Run the benchmarks that are named, or all, each in a process of its own."""
    names = sys.argv[1:] or BENCHMARKS
    for name in names:
        if name not in BENCHMARKS + UNASKED:
            sys.exit(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS + UNASKED)}")
    if len(names) == 1:
        import_module(f"bench.{names[0]}").main()
        return
    run = [sys.executable, "-m", "bench"]
    codes = {name: subprocess.run([*run, name], check=False).returncode for name in names}
    failed = [name for name, code in codes.items() if code]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


main()
