"""Contract tests for authors of extractors, matchers, pair selectors, mappers and executors.

Inherit from a contract in a test file and define how the component is built. pytest runs the inherited tests:

```python
from sfm_lightglue.testing import ExtractorContract


class TestCorners(ExtractorContract):
    @classmethod
    def build(cls):
        return CornerExtractor(CornerConfig(max_keypoints=256))
```

This module needs pytest, which the library does not install.
"""

import pytest

pytest.register_assert_rewrite(
    "sfm_lightglue.testing.executor_contract",
    "sfm_lightglue.testing.extractor_contract",
    "sfm_lightglue.testing.mapper_contract",
    "sfm_lightglue.testing.matcher_contract",
    "sfm_lightglue.testing.pairs_contract",
)

# Imported after the line above, so that failed assertions show their values.
from sfm_lightglue.testing.executor_contract import ExecutorContract  # noqa: E402
from sfm_lightglue.testing.extractor_contract import ExtractorContract  # noqa: E402
from sfm_lightglue.testing.mapper_contract import MapperContract  # noqa: E402
from sfm_lightglue.testing.matcher_contract import MatcherContract  # noqa: E402
from sfm_lightglue.testing.pairs_contract import PairSelectorContract  # noqa: E402
from sfm_lightglue.testing.photos import make_exif, textured, write_photo  # noqa: E402

__all__ = [
    "ExecutorContract",
    "ExtractorContract",
    "MapperContract",
    "MatcherContract",
    "PairSelectorContract",
    "make_exif",
    "textured",
    "write_photo",
]
