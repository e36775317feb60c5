"""Everything that this library raises on purpose.

```
SfmError
├─ ConfigError          unknown key or bad value                        exit 2
├─ DataError            no folder, no image, nothing readable (path)    exit 3
├─ WeightsError         missing, wrong sha256, wrong keys               exit 4
├─ ReconstructionError  no model: the counts, and what to try           exit 5
└─ StoreError           folder not writable, disk full                  exit 6
```

`ValueError` and `TypeError` are the caller's slips. A pair of images without a common view is no error at
all: it is a `Rejected` value. Only `pipelines` catches `SfmError`.
"""

from typing import ClassVar


class SfmError(Exception):
    """Root of the errors that a user can cause and repair; the message says how."""

    exit_code: ClassVar[int] = 1


class ConfigError(SfmError):
    """An option is unknown or has a value that cannot work."""

    exit_code = 2


class DataError(SfmError):
    """A folder, an image or a pair list is missing or unreadable; the message names the path."""

    exit_code = 3


class WeightsError(SfmError):
    """A file of network weights is missing, damaged or not of the expected architecture."""

    exit_code = 4


class ReconstructionError(SfmError):
    """The photos were read, but no model could be built from them."""

    exit_code = 5


class StoreError(SfmError):
    """The folder of results cannot be written."""

    exit_code = 6
