"""The command line, as `python -m tracksets`."""

from tracksets.cli import main

main()
