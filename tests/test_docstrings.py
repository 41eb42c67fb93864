import doctest
import pkgutil
from importlib import import_module

import pytest

import tracksets
from tracksets.errors import MissingExtraError

MODULES = [each.name for each in pkgutil.walk_packages(tracksets.__path__, "tracksets.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    try:
        module = import_module(name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert not failed
