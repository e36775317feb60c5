"""The errors that this library raises on purpose.

```
SfmError
├─ ConfigError          unknown key or bad value                        exit 2
├─ DataError            missing or unreadable input (path)              exit 3
├─ WeightsError         missing, wrong sha256, wrong keys               exit 4
├─ ReconstructionError  no model (counts, and what to try)              exit 5
└─ StoreError           folder not writable, disk full                  exit 6
```

`ValueError` and `TypeError` report mistakes in calling code. A pair of images without a common view is not an
error but a `Rejected` value. Only `pipelines` catches `SfmError`.
"""

from typing import Any, ClassVar


class SfmError(Exception):
    """Base class of errors that a user can cause and repair. The message states how."""

    exit_code: ClassVar[int] = 1


class ConfigError(SfmError):
    """An option is unknown or has an invalid value."""

    exit_code = 2


class DataError(SfmError):
    """A folder, an image or a pair list is missing or unreadable; the message names the path."""

    exit_code = 3


class WeightsError(SfmError):
    """A file of network weights is missing, damaged or not of the expected architecture."""

    exit_code = 4


class ReconstructionError(SfmError):
    """The images were read, but no model could be built from them, or none that is sure enough to be published.

    Args:
        message: cause, and what to try.
        summary: the run in numbers as plain values, the same as in `run.json`; None if the run ended before matching.
    """

    exit_code = 5

    def __init__(self, message: str, summary: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.summary = summary


class StoreError(SfmError):
    """The store or the output folder cannot be written."""

    exit_code = 6
