import numpy as np
import pytest

import tracksets as ts
from tracksets.errors import DataError
from tracksets.splitting import Splitting, split

FOLD = np.random.default_rng(0).integers(0, 3, 200)
LATE = np.arange(200) >= 150


def members(columns, **settings):
    training = ts.Training(seed=5, **settings)
    splitting = Splitting.of(200, training, columns)
    found = list(splitting.members())
    assert len(found) == splitting.n_member
    return found


def test_one_model():
    [member] = members({})
    chosen, held_out = split(200, ts.Training(seed=5))
    np.testing.assert_array_equal(member.chosen, chosen)
    np.testing.assert_array_equal(member.held_out, held_out)
    assert (member.name, member.folder, member.fold, member.training.seed) == ("", "", None, 5)


@pytest.mark.parametrize("validation", [0.0, 0.25, "late"])
def test_a_fold_is_nothing_to_its_models(validation):
    columns = {"fold": FOLD, "late": LATE}
    found = members(columns, folds="fold", ensemble=2, validation=validation)
    assert [member.fold for member in found] == [0, 0, 1, 1, 2, 2]
    assert [member.training.seed for member in found] == [5, 6] * 3
    assert [member.folder for member in found] == [f"model_{i}" for i in range(6)]
    assert found[3].name == "fold 2 of 3, model 2 of 2"
    for member in found:
        every = np.concatenate([member.chosen, member.held_out])
        np.testing.assert_array_equal(np.sort(every), np.flatnonzero(member.fold != FOLD))
        for part in (member.chosen, member.held_out):
            assert (np.diff(part) > 0).all()
        if validation == "late":
            assert LATE[member.held_out].all()
            assert not LATE[member.chosen].any()
        else:
            assert len(member.held_out) == round(validation * len(every))
    if validation == 0.25:  # another seed, another draw
        assert not np.array_equal(found[0].held_out, found[1].held_out)


def test_validation_where_an_expression_is_not_zero():
    values = np.array([0.0, 2.0, np.nan, -1.0] * 50)
    [member] = members({"x": values}, validation="x")
    np.testing.assert_array_equal(member.held_out, np.flatnonzero(values != 0)[values[values != 0] == values[values != 0]])  # fmt: skip
    assert len(member.chosen) == 100


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"fold": FOLD, "late": FOLD < 9}, r"fold 1 of 3: .* 'late' holds out \d+ of \d+ events"),
        ({"fold": FOLD, "late": FOLD > 9}, "holds out 0 of"),
        ({"fold": FOLD, "late": FOLD == 2}, "fold 3 of 3: .*holds out 0 of"),
        ({"fold": FOLD - 1, "late": LATE}, "gives -1 for a training event"),
        ({"fold": FOLD * 0, "late": LATE}, "1 different number"),
    ],
)
def test_refused(columns, message):
    with pytest.raises(DataError, match=message):
        members(columns, folds="fold", validation="late")


def test_seeds_stay_in_their_range():
    training = ts.Training(seed=2**32 - 1, ensemble=2)
    seeds = [each.training.seed for each in Splitting.of(10, training, {}).members()]
    assert seeds == [2**32 - 1, 0]
