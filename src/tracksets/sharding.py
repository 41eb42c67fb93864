"""The devices that share a step: one here, all of a machine, or those of several processes."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

__all__ = ("AXIS", "device_mesh", "on_all", "share", "shared_out", "to_host")

AXIS = "device"
"""Name of the axis of a stack of blocks that the devices share out."""


@cache
def device_mesh() -> Mesh | None:
    """Return all devices of all processes, in a row; None if there is only one."""
    return Mesh(np.asarray(jax.devices()), (AXIS,)) if jax.device_count() > 1 else None


def share(n_block: int) -> tuple[int, int]:
    """Return how many blocks make a step, at least one per device, and in how many slots."""
    n_device = jax.device_count()
    n_block = max(n_block, n_device)
    return n_block, -(-n_block // n_device) * n_device


def on_all(tree: Any) -> Any:
    """Copy arrays to every device."""
    mesh = device_mesh()
    if mesh is None:
        return jax.tree.map(jnp.asarray, tree)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def shared_out(stack: Any) -> Any:
    """Give each device its share of arrays with a leading axis; all processes have all of it."""
    mesh = device_mesh()
    if mesh is None:
        return stack
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))

    def put(array: Any) -> Any:
        whole = np.asarray(array)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, stack)


def to_host(tree: Any) -> Any:
    """Copy arrays here; those whose parts are on the devices of several processes, from all."""

    def fetch(array: Any) -> np.ndarray:
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            if array.is_fully_replicated:
                return np.array(array.addressable_data(0))
            from jax.experimental.multihost_utils import process_allgather

            return np.asarray(process_allgather(array, tiled=True))
        return np.array(array)  # a view would change when a step reuses the memory

    return jax.tree.map(fetch, tree)
