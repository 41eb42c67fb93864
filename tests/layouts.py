"""Ways to lay out the same jagged array in memory: from an `n * var * float32` to a layout."""

import awkward as ak
import numpy as np
from awkward import contents, index

NAN = np.float32([np.nan] * 3)


def gaps(x):
    counts, flat = ak.num(x), np.concatenate([ak.to_numpy(ak.flatten(x)), NAN])
    where = np.argsort(np.random.default_rng(0).random(len(x)))  # lists in any order, with gaps
    starts, values = np.zeros(len(x), np.int64), NAN
    first = np.cumsum(counts) - counts
    for i in where:
        starts[i] = len(values)
        values = np.concatenate([values, flat[first[i] : first[i] + counts[i]], NAN])
    return contents.ListArray(
        index.Index64(starts), index.Index64(starts + counts), contents.NumpyArray(values)
    )


def offsets(x, kind=index.Index64, dtype=np.int64):
    values = np.concatenate([NAN, ak.to_numpy(ak.flatten(x)), NAN])
    ends = 3 + np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(x)))])
    return contents.ListOffsetArray(kind(ends.astype(dtype)), contents.NumpyArray(values))


def inner(x, wrap):
    layout = ak.to_packed(x).layout
    return contents.ListOffsetArray(layout.offsets, wrap(layout.content))


def reverse(layout, kind=contents.IndexedArray):
    return kind(index.Index64(np.arange(layout.length)[::-1].copy()), layout)


def present(layout):
    return contents.ByteMaskedArray(index.Index8(np.ones(layout.length, np.int8)), layout, True)


LAYOUTS = {
    "gaps": gaps,
    "first offset is not 0": offsets,
    "32-bit offsets": lambda x: offsets(x, index.Index32, np.int32),
    "unsigned offsets": lambda x: offsets(x, index.IndexU32, np.uint32),
    "indexed outside": lambda x: reverse(ak.to_packed(x[::-1]).layout),
    "indexed inside": lambda x: inner(x, lambda y: reverse(contents.NumpyArray(y.data[::-1]))),
    "strided": lambda x: inner(x, lambda y: contents.NumpyArray(np.repeat(y.data, 2)[::2])),
    "option outside": lambda x: present(x.layout),
    "option inside": lambda x: inner(x, present),
    "indexed option": lambda x: reverse(ak.to_packed(x[::-1]).layout, contents.IndexedOptionArray),
    "unmasked": lambda x: contents.UnmaskedArray(x.layout),
    "float64": lambda x: ak.values_astype(x, np.float64).layout,
}
