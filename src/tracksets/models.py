"""The configuration of a network: `Model`, its presets, and what they make of given inputs."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tracksets.configuration import Configuration
from tracksets.errors import ConfigError, near_misses
from tracksets.inputs import Inputs, feature_names
from tracksets.pooling import Pooling

__all__ = ("PRESETS", "Activation", "Architecture", "Model", "weight_columns")

Activation = Literal["relu", "gelu", "silu", "tanh"]
Width = Annotated[int, Field(gt=0, le=65536)]

_PFN: Mapping[str, Any] = {
    "phi": (100, 100, 256),
    "rho": (100, 100, 100),
    "pool": ("sum",),
    "activation": "relu",
}
_WIDE: Mapping[str, Any] = {
    "phi": (128, 128, 128),
    "rho": (128, 128),
    "pool": ("sum", "mean", "max"),
    "activation": "gelu",
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "deep_sets": {**_WIDE, "pool": ("sum",), "activation": "silu"},
    "pfn": _PFN,
    "efn": _PFN,
    "poolings": {**_WIDE, "pool": ("sum", "mean", "max", "std", "softmax")},
    "resnet": {**_WIDE, "residual": True},
    "context": {**_WIDE, "rounds": 1},
}
"""By name: what a preset says; see the methods of `Model` of the same names."""

_NOTHING: Mapping[str, Any] = {"residual": False, "rounds": 0, "weights": None}


class Model(Configuration):
    """Configuration of a Deep Set.

    Parameters
    ----------
    preset
        `deep_sets`, `pfn`, `efn`, `poolings`, `resnet` or `context`: what the methods of these
        names give, for all that is not said otherwise.
    phi
        Widths of the layers that every track passes, each followed by the activation. The last
        one is the size of the latent.
    rho
        Widths of the hidden layers behind the pooling. A linear layer to the outputs follows.
    pool
        Poolings over the tracks of an event, of `sum`, `mean`, `max`, `std` and `softmax`; their
        results are concatenated.
    activation
        `relu`, `gelu`, `silu` or `tanh`.
    residual
        Whether every layer but the first adds to what it gets, where the widths allow it, and sees
        that normalised: each track, or event, by itself.
    rounds
        How often the pooled latents go back to every track, whose phi then runs again.
    weights
        A feature, as it stands in the list, that every track's latent is weighted by in the
        poolings. Phi does not see it.

    Examples
    --------
    >>> Model(preset="pfn", rho=[64]).phi
    (100, 100, 256)
    >>> Model.pfn(rho=[64]) == Model(preset="pfn", rho=[64])
    True
    """

    shorthands: ClassVar[tuple[str, ...]] = ("preset",)

    phi: Annotated[tuple[Width, ...], Field(min_length=1)] = (128, 128, 128)
    rho: tuple[Width, ...] = (128, 128)
    pool: Annotated[tuple[Pooling, ...], Field(min_length=1)] = ("sum",)
    activation: Activation = "silu"
    residual: bool = False
    rounds: Annotated[int, Field(ge=0, le=8)] = 0
    weights: str | None = None

    @classmethod
    def deep_sets(cls, **options: Any) -> Self:
        """Sum as pooling: Zaheer et al., Deep Sets, NeurIPS 2017 (arXiv:1703.06114)."""
        return cls.model_validate({"preset": "deep_sets", **options})

    @classmethod
    def pfn(cls, **options: Any) -> Self:
        """Particle Flow Network, in the sizes of the paper.

        Komiske, Metodiev, Thaler, JHEP 01 (2019) 121 (arXiv:1810.05165).
        """
        return cls.model_validate({"preset": "pfn", **options})

    @classmethod
    def efn(cls, weights: str, **options: Any) -> Self:
        """Energy Flow Network: the pooling matrix has the tracks' shares of the energy in it.

        Komiske, Metodiev, Thaler, JHEP 01 (2019) 121 (arXiv:1810.05165). Infrared and collinear
        safe if the other features are directions and nothing cuts on tracks.

        Parameters
        ----------
        weights
            The feature with the shares: `pt/sum(pt)`.
        **options
            What is to be different.
        """
        return cls.model_validate({"preset": "efn", "weights": weights, **options})

    @classmethod
    def poolings(cls, **options: Any) -> Self:
        """All poolings at once.

        Corso et al., Principal Neighbourhood Aggregation, NeurIPS 2020 (arXiv:2004.05718) show
        that one alone cannot tell all sets apart; the weights of `softmax` are those of attention
        as in Ilse, Tomczak, Welling, ICML 2018 (arXiv:1802.04712).
        """
        return cls.model_validate({"preset": "poolings", **options})

    @classmethod
    def resnet(cls, **options: Any) -> Self:
        """Layers that add to what they get, normalised per track.

        He et al., CVPR 2016 (arXiv:1512.03385); Ba, Kiros, Hinton, Layer Normalization
        (arXiv:1607.06450), in front of the layer as in Xiong et al., ICML 2020 (arXiv:2002.04745).
        """
        return cls.model_validate({"preset": "resnet", **options})

    @classmethod
    def context(cls, **options: Any) -> Self:
        """Tracks that know of their event: one context round.

        As the global attribute in Battaglia et al. (arXiv:1806.01261), with no edges between
        tracks: the work stays linear in their number.
        """
        return cls.model_validate({"preset": "context", **options})

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or "preset" not in content:
            return content
        name, options = content["preset"], {k: v for k, v in content.items() if k != "preset"}
        if name is None:
            return options
        if name not in PRESETS:
            raise ValueError(f"no preset {name!r}; {near_misses(str(name), PRESETS)}")
        if name == "efn" and options.get("weights") is None:
            raise ValueError(
                "the preset 'efn' needs weights: the feature with each track's share of the "
                "energy, such as 'pt/sum(pt)'"
            )
        return {**PRESETS[name], **options}

    @model_validator(mode="after")
    def _weighable(self) -> Self:
        if self.weights is not None and "max" in self.pool:
            raise ValueError("weights have no meaning for the pooling 'max'; leave one of them out")
        return self

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What does nothing is not written, so that files and hashes of models that don't have it
        # are those of the time when there was no such key.
        content: dict[str, Any] = handler(self)
        return {k: v for k, v in content.items() if k not in _NOTHING or v != _NOTHING[k]}


class Architecture(Configuration):
    """Everything that decides the shapes of a network's arrays, and nothing else.

    Parameters
    ----------
    model
        The configuration of the network.
    tracks
        Features per track, by collection.
    event
        Event-level features.
    outputs
        Numbers that come out per event.
    weights
        By collection: which feature weighs the tracks; empty without weights.
    """

    model: Model
    tracks: tuple[tuple[str, int], ...]
    event: int
    outputs: int
    weights: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, model: Model, inputs: Inputs, outputs: int) -> Self:
        """Put together what a model makes of inputs.

        Raises
        ------
        ConfigError
            If a collection does not have the feature that the model weighs tracks by.
        """
        return cls(
            model=model,
            tracks=tuple(inputs.widths.items()),
            event=inputs.event_width,
            outputs=outputs,
            weights=tuple(weight_columns(model, inputs).items()),
        )


def weight_columns(model: Model, inputs: Inputs) -> dict[str, int]:
    """Find by collection which of a track's numbers is its weight; empty without weights.

    Raises
    ------
    ConfigError
        If a collection does not have it, or nothing else.
    """
    columns: dict[str, int] = {}
    for name, collection in inputs.collections.items() if model.weights is not None else ():
        names = feature_names(collection.features)
        if model.weights not in names:
            raise ConfigError(
                f"the model weighs tracks by '{model.weights}', which is not one number among the "
                f"features of the collection {name}; {near_misses(str(model.weights), names)}"
            )
        if len(names) == 1:
            raise ConfigError(f"the collection {name} has no feature but the weights")
        columns[name] = names.index(model.weights)
    return columns
