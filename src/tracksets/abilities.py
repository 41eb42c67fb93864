"""What a scorer can do beside scoring; the modules that do it are loaded on first use."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import awkward as ak

if TYPE_CHECKING:
    from tracksets.calibration import Method
    from tracksets.explanations import Kind
    from tracksets.scorer import Scorer

__all__ = ("Abilities",)


class Abilities:
    """Further methods of `Scorer`."""

    def contributions(self, events: ak.Array, kind: "Kind" = "change") -> ak.Array:
        """Explain scores, track by track.

        Parameters
        ----------
        events
            As in a call.
        kind
            `change`: the score minus the score that the event has without this track, which is
            exact. `gradient`: the gradient of the score times the distance of the track's features
            from their means. Both are in the unit of the score.

        Returns
        -------
        ak.Array
            `n * var * float32`, aligned with the tracks; for several classes a record by class
            within; for several collections a record of these by collection. 0 for tracks that the
            inputs do not select. See `tracksets.explanations`.
        """
        from tracksets.explanations import contributions

        return contributions(cast("Scorer", self), events, kind)

    def calibrated(
        self, events: ak.Array, targets: Any, weights: Any = None, method: "Method" = "temperature"
    ) -> "Scorer":
        """Return the scorer whose probabilities fit events that it was not trained on.

        Parameters
        ----------
        events, targets, weights
            As in `fit`; weights of any sign.
        method
            `temperature` or `isotonic`; see `tracksets.calibration`.
        """
        from tracksets.calibrating import calibrate_on_events

        done = calibrate_on_events(cast("Scorer", self), events, targets, weights, method)
        return done.scorer

    def varied(self, *assignments: str) -> "Scorer":
        """Return the scorer that sees shifted branches: `scorer.varied("Track_pt *= 1.02")`.

        What is computed from a branch shifts with it: features, cuts on tracks, masses. See
        `tracksets.variations`.

        Raises
        ------
        ConfigError
            If an assignment cannot be read.
        """
        from tracksets.variations import parse_variations

        for text in assignments:
            parse_variations(text)
        scorer = cast("Scorer", self)
        vary = (*scorer.inputs.vary, *assignments)
        return replace(scorer, inputs=scorer.inputs.model_copy(update={"vary": vary}))
