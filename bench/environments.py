"""Libraries that need an environment of their own in, its Python out; made where there is none."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

NEEDS: Mapping[str, tuple[str, ...]] = {
    "energyflow": ("energyflow==1.4.0", "tensorflow-cpu<2.19", "tf_keras<2.19", "numpy<2", "awkward"),
    "weaver": ("weaver-core==0.5.3",),
}  # fmt: skip
"""EnergyFlow needs an older NumPy than all others, and weaver brings much that nobody else needs."""


def environment(module: str) -> Path:
    """Return a Python that has a module: the one that a variable names, or one that is made.

    Raises
    ------
    OSError, subprocess.SubprocessError
        If there is none and it cannot be made.
    """
    variable = f"TRACKSETS_{module.upper()}"
    named = os.environ.get(variable)
    python = Path(named) if named else Path(sys.prefix) / "peers" / module / "bin" / "python"
    if not python.exists():
        if named:
            raise FileNotFoundError(f"{variable} names {python}, which is not there")
        print(f"Making an environment with {module} in {python.parents[1]}; this takes minutes.")
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *NEEDS[module]], check=True)
    subprocess.run([python, "-c", f"import {module}"], check=True, capture_output=True)
    return python
