"""What every extractor, matcher and pair selector keeps, as tests for those who write one.

Inherit from a contract in a file of tests, and say how the component is built; pytest does the rest:

```python
from sfm_lightglue.testing import ExtractorContract


class TestCorners(ExtractorContract):
    @classmethod
    def build(cls):
        return CornerExtractor(CornerConfig(max_keypoints=256))
```

Needs pytest, which the library itself does not.
"""

import pytest

pytest.register_assert_rewrite(
    "sfm_lightglue.testing.extractor_contract",
    "sfm_lightglue.testing.matcher_contract",
    "sfm_lightglue.testing.pairs_contract",
)

# After the line above, so that a failed assertion shows its values.
from sfm_lightglue.testing.extractor_contract import ExtractorContract  # noqa: E402
from sfm_lightglue.testing.matcher_contract import MatcherContract  # noqa: E402
from sfm_lightglue.testing.pairs_contract import PairSelectorContract  # noqa: E402
from sfm_lightglue.testing.photos import make_exif, textured, write_photo  # noqa: E402

__all__ = [
    "ExtractorContract",
    "MatcherContract",
    "PairSelectorContract",
    "make_exif",
    "textured",
    "write_photo",
]
