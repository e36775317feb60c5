"""The error tree and its exit codes, on which scripts rely."""

import pytest

from sfm_lightglue import errors
from sfm_lightglue.errors import SfmError

EXIT_CODES = {"ConfigError": 2, "DataError": 3, "WeightsError": 4, "ReconstructionError": 5, "StoreError": 6}


def test_the_tree_is_complete_and_subclasses_keep_their_exit_code():
    found = {error.__name__: error.exit_code for error in SfmError.__subclasses__()}
    assert found == EXIT_CODES
    for error in SfmError.__subclasses__():
        assert all(special.exit_code == error.exit_code for special in error.__subclasses__())


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_the_tree_in_the_docstring_is_correct(name, code):
    (line,) = (line for line in errors.__doc__.splitlines() if f" {name} " in line)
    assert line.endswith(f"exit {code}")


def test_mistakes_in_calling_code_are_not_sfm_errors():
    assert not issubclass(SfmError, (ValueError, TypeError, OSError))
    assert SfmError.exit_code not in {0, *EXIT_CODES.values()}
