"""Which engine computes scores, and in what precision: chosen by name, never silently."""

from dataclasses import dataclass
from importlib.util import find_spec

from tracksets.errors import ConfigError, MissingExtraError, near_misses

__all__ = ("JAX", "Engine")

_PRECISIONS = {"jax": ("float32",), "openvino": ("float32", "bfloat16")}


@dataclass(frozen=True)
class Engine:
    """What computes scores.

    Parameters
    ----------
    name
        `jax`, or `openvino`, which is faster on some CPUs.
    precision
        What phi and rho are multiplied in. Sums over tracks are float32 in either case.

    Raises
    ------
    ConfigError
        If there is no such engine, or it has no such precision.

    Examples
    --------
    >>> print(Engine("openvino", "bfloat16"))
    openvino in bfloat16
    """

    name: str = "jax"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.name not in _PRECISIONS:
            raise ConfigError(f"no engine {self.name!r}: {near_misses(self.name, _PRECISIONS)}")
        known = _PRECISIONS[self.name]
        if self.precision not in known:
            others = [name for name, each in _PRECISIONS.items() if self.precision in each]
            raise ConfigError(
                f"the engine {self.name} does not compute in {self.precision!r}: "
                + (f"{others[0]} does" if others else near_misses(self.precision, known))
            )

    def __str__(self) -> str:
        return f"{self.name} in {self.precision}"

    def describe(self) -> str:
        """Say what the engine uses of this processor, and what was measured with that.

        Raises
        ------
        MissingExtraError
            If the engine is not installed.
        ProcessError
            If the processor has no instructions for the precision.
        """
        if self.name == "jax":
            return f"{self}: the reference"
        self.check_installed()
        from tracksets.openvino_graph import kernel

        name = kernel(self.precision)
        return f"{self} by {name}: {_gain(self.precision, name)}"

    def check_installed(self) -> None:
        """Raise an error if the engine's package is missing, rather now than at the first score.

        Raises
        ------
        MissingExtraError
            Which names the extra.
        """
        if self.name != "jax" and find_spec(self.name) is None:
            raise MissingExtraError(self.name, self.name, f"scoring with {self.name}")


JAX = Engine()


def _gain(precision: str, kernel: str) -> str:
    """Say how fast phi is with a kernel of OpenVINO, as measured; see docs/engines.md."""
    if "amx" in kernel:
        return "1.1 to 7 times as fast as jax, the wider the layers the more"
    if precision == "bfloat16":
        rate = 0.5 if "avx512_bf16" in kernel else 0.03
        return f"only {rate} times as fast as jax, as this processor has no AMX; use float32"
    if "avx512" in kernel:
        return "0.5 to 1.1 times as fast as jax"
    return "about 0.6 times as fast as jax, as this processor has no AVX-512"
