"""OpenCV works in several threads at the same time, and nothing changes its number of threads meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FLOW_BESIDE_A_POOL = """
import threading
import time

import cv2
import numpy as np

from sfm_lightglue.execution.threads import ordered_map

cv2.setNumThreads(2)
image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (192, 256), np.uint8), (0, 0), 3)
points = np.random.default_rng(1).uniform(20, 170, (150, 1, 2)).astype(np.float32)
is_over = threading.Event()


def track() -> None:
    while not is_over.is_set():
        cv2.calcOpticalFlowPyrLK(image, np.roll(image, 2, axis=1), points, None)


thread = threading.Thread(target=track)
thread.start()
end = time.monotonic() + 3
while time.monotonic() < end:
    for _ in ordered_map(lambda _: time.sleep(0.0003), range(2), 2):
        pass
is_over.set()
thread.join()
print(cv2.getNumThreads())
"""

COMMAND = """
import cv2

from pipelines.command import run_command

run_command(lambda: print(cv2.getNumThreads()))
"""


def output_of(program: str, **environment: str) -> str:
    rest = {name: value for name, value in os.environ.items() if name != "OPENCV_FOR_THREADS_NUM"}
    done = subprocess.run([sys.executable, "-c", program], env=rest | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_another_thread_may_use_opencv_while_a_pool_begins_and_ends():
    assert output_of(FLOW_BESIDE_A_POOL) in {"1", "2"}  # 1: this OpenCV has no threads


@pytest.mark.parametrize(("chosen", "number"), [({}, "1"), ({"OPENCV_FOR_THREADS_NUM": "3"}, "3")])
def test_a_command_uses_one_thread_of_opencv_unless_the_user_chose_more(chosen: dict[str, str], number: str):
    assert output_of(COMMAND, **chosen) == number
