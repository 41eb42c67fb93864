"""Arrays of a network in, phi with its pooling and rho as compiled OpenVINO models out.

Tracks are pooled in the graph, by a product with a dense 0/1 matrix of the few events of a chunk of
tracks: where a matrix unit does the products, that takes less time than to write the latent out.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracksets.devices import note_start
from tracksets.errors import MissingExtraError, ModelError, ProcessError, near_misses
from tracksets.network import Architecture, Model

_TELEMETRY = "openvino_telemetry"
_before = sys.modules.get(_TELEMETRY)
try:
    # Its import would fork a process that reports to its makers: nobody asked, and a fork may hang
    # where JAX has threads. Without the package, OpenVINO does without.
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    import openvino
    from openvino import opset13 as ops
except ImportError:
    raise MissingExtraError("openvino", "openvino", "scoring with openvino") from None
finally:
    del sys.modules[_TELEMETRY]
    if _before is not None:
        sys.modules[_TELEMETRY] = _before

__all__ = ("GROUP", "Slots", "check_known", "compiled_model", "kernel", "phi_model", "rho_model")

GROUP = 8
"""Tracks of one event that the graph reduces to their largest latent; NumPy does the rest."""

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_MULTIPLES = {"float32": 1, "bfloat16": 32}
"""Layers are widened with zeros to what fills the tiles of the matrix unit."""

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Slots:
    """A chunk of tracks.

    Attributes
    ----------
    tracks, events
        Most tracks, and most events that they belong to.
    """

    tracks: int
    events: int


def check_known(architecture: Architecture, arrays: Arrays) -> None:
    """Refuse a network with anything that the graphs here would leave out.

    Raises
    ------
    ModelError
        Which names it.
    """
    model = architecture.model
    options = {
        f"{name} = {getattr(model, name)!r}"
        for name, field in type(model).model_fields.items()
        if name not in {"phi", "rho", "pool", "activation"}
        and getattr(model, name) != field.default
    }
    options |= {f"pool = {how!r}" for how in model.pool if how not in ("sum", "mean", "max")}
    prefixes = ["event_scaling", "out", *(f"rho.layers.{i}" for i in range(len(model.rho)))]
    for name, _ in architecture.tracks:
        prefixes.append(f"scaling.{name}")
        prefixes += (f"phi.{name}.layers.{i}" for i in range(len(model.phi)))
    leaves = ("shift", "scale", "kernel", "bias")
    known = {f"{prefix}.{leaf}" for prefix in prefixes for leaf in leaves}
    unknown = options | {name for name, array in arrays.items() if array.size and name not in known}
    if unknown:
        raise ModelError(
            f"the engine openvino does not know {', '.join(sorted(unknown))}; use the engine jax"
        )


def phi_model(
    arrays: Arrays, name: str, model: Model, slots: Slots, precision: str
) -> "openvino.Model":
    """Write phi and its pooling.

    Returns
    -------
    openvino.Model
        With the inputs `tracks` (float32, (slots.tracks, n_feature)), without their shift, and, if
        there is a sum or mean, `owners` (int32, (slots.tracks,)), the number of each track's event
        in the chunk, or -1 for none. The outputs are, in this order and if there is such a pooling,
        sums over the tracks of each event (float32, (slots.events, width)), and the largest latents
        of each `GROUP` of tracks (float32, (slots.tracks / GROUP, width)).
    """
    scale = arrays[f"scaling.{name}.scale"]
    layers = _layers(arrays, f"phi.{name}", len(model.phi))
    layers[0] = (layers[0][0] * scale[:, None], layers[0][1])
    inputs = [ops.parameter([slots.tracks, len(scale)], np.float32)]
    latent = _dense(inputs[0], layers, _activation(model.activation), _MULTIPLES[precision])
    results = []
    if set(model.pool) - {"max"}:
        inputs.append(ops.parameter([slots.tracks], np.int32))
        one, zero = (ops.constant(np.float32(value)) for value in (1, 0))
        matrix = ops.one_hot(inputs[1], ops.constant(slots.events), one, zero, axis=0)
        results.append(ops.result(ops.matmul(matrix, latent, False, False)))
    if "max" in model.pool:
        shape = np.array([slots.tracks // GROUP, GROUP, model.phi[-1]])
        groups = ops.reshape(latent, ops.constant(shape), False)
        results.append(ops.result(ops.reduce_max(groups, ops.constant(np.array([1])), False)))
    return openvino.Model(results, inputs, f"phi.{name}")


def rho_model(arrays: Arrays, model: Model, rows: int, precision: str) -> "openvino.Model":
    """Write rho and the outputs, for a fixed number of events."""
    layers = _layers(arrays, "rho", len(model.rho))
    kernel, bias = arrays["out.kernel"], arrays["out.bias"]
    width = (layers[0][0] if layers else kernel).shape[0]
    x = ops.parameter([rows, width], np.float32)
    latent = _dense(x, layers, _activation(model.activation), _MULTIPLES[precision])
    return openvino.Model([ops.result(_affine(latent, kernel, bias))], [x], "rho")


def compiled_model(model: "openvino.Model", precision: str, threads: int) -> Any:
    """Compile a model for as many callers at the same time as there are threads.

    Raises
    ------
    ProcessError
        If the processor has no instructions for the precision: OpenVINO would use another.
    """
    note_start()
    core = _core()
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        # Several processes would all be bound to the same first cores.
        "ENABLE_CPU_PINNING": False,
    }
    found = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bfloat16" and "BF16" not in found:
        raise _cannot(precision, f"it has {', '.join(found)}")
    try:
        return core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise _cannot(precision, str(error).strip().splitlines()[-1]) from None


def _cannot(precision: str, reason: str) -> ProcessError:
    instead = "the engine jax" if precision == "float32" else "the precision float32"
    return ProcessError(
        f"OpenVINO cannot compute in {precision} on this processor: {reason}; use {instead}"
    )


@cache
def kernel(precision: str) -> str:
    """Name the kernel that a layer is computed by, such as `brgemm_avx512_amx_bf16`.

    Raises
    ------
    ProcessError
        If the processor has no instructions for the precision.
    """
    x = ops.parameter([384, 128], np.float32)
    layer = (np.eye(128, dtype=np.float32), np.ones(128, np.float32))
    model = openvino.Model([ops.result(ops.relu(_affine(x, *layer)))], [x], "probe")
    found = compiled_model(model, precision, 1).get_runtime_model().get_ordered_ops()
    infos = (op.get_rt_info() for op in found)
    products = (each for each in infos if each["layerType"].astype(str) == "FullyConnected")
    return next((each["primitiveType"].astype(str) for each in products), "unknown")


@cache
def _core() -> Any:
    return openvino.Core()


def _layers(arrays: Arrays, prefix: str, n_layer: int) -> list[tuple[Any, Any]]:
    names = (f"{prefix}.layers.{i}" for i in range(n_layer))
    return [(arrays[f"{name}.kernel"], arrays[f"{name}.bias"]) for name in names]


def _dense(
    x: Any, layers: list[tuple[Any, Any]], activation: Callable[[Any], Any], multiple: int
) -> Any:
    """Apply layers, all but the last one widened; the activations leave zeros as they are."""
    missing = 0
    for i, (kernel, bias) in enumerate(layers):
        more = -len(bias) % multiple if i < len(layers) - 1 else 0
        wide = np.pad(kernel, ((0, missing), (0, more)))
        x, missing = activation(_affine(x, wide, np.pad(bias, (0, more)))), more
    return x


def _affine(x: Any, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> Any:
    transposed = ops.constant(np.ascontiguousarray(kernel.T))
    return ops.add(ops.matmul(x, transposed, False, True), ops.constant(bias[None, :]))


def _activation(name: str) -> Callable[[Any], Any]:
    if name not in _ACTIVATIONS:
        raise ModelError(
            f"the engine openvino does not know the activation {name!r}; "
            f"{near_misses(name, _ACTIVATIONS)}; use the engine jax"
        )
    return _ACTIVATIONS[name]


_ACTIVATIONS: Mapping[str, Callable[[Any], Any]] = {
    "relu": ops.relu,
    "gelu": lambda x: ops.gelu(x, "tanh"),
    "silu": ops.swish,
    "tanh": ops.tanh,
}
