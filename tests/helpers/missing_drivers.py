"""Whether an error of the viewer is the fault of the machine, for tests that are skipped there."""

from __future__ import annotations

import re


def names_a_missing_driver(message: str) -> bool:
    """Whether the cause in brackets names a graphics driver or a library of the system.

    The rest of the message does not count: it lists packages of drivers for other causes too.
    """
    cause = re.search(r"does not work here \((.*?)\); ", message)
    return cause is not None and re.search("vulkan|driver|shared object", cause[1], re.IGNORECASE) is not None
