"""The command line, as `python -m tracksets`."""

from tracksets.cli import main

if __name__ == "__main__":
    main()
