"""The error tree, and the exit codes that scripts rely on."""

import pytest

from sfm_lightglue import errors
from sfm_lightglue.errors import SfmError

EXIT_CODES = {"ConfigError": 2, "DataError": 3, "WeightsError": 4, "ReconstructionError": 5, "StoreError": 6}


def test_the_tree_is_one_level_deep_and_complete():
    found = {error.__name__: error.exit_code for error in SfmError.__subclasses__()}
    assert found == EXIT_CODES
    assert all(not error.__subclasses__() for error in SfmError.__subclasses__())


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_the_tree_drawn_in_the_docstring_says_the_same(name, code):
    (line,) = (line for line in errors.__doc__.splitlines() if f" {name} " in line)
    assert line.endswith(f"exit {code}")


def test_slips_of_the_caller_are_no_sfm_errors():
    assert not issubclass(SfmError, (ValueError, TypeError, OSError))
    assert SfmError.exit_code not in {0, *EXIT_CODES.values()}
