"""Frames per second of the viewer's window while it is turned, with and without levels of detail.

`xvfb-run -s "-screen 0 1600x1200x24" python -m benchmarks.viewer` measures software rendering on a machine without a
graphics card; with a display, the graphics card is measured. Each row is a process of its own. On a machine that does
other work too, the processor time of a frame, of all threads together, tells more than the frames per second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.drawing.scene import frustum_lines, order_colors, pinhole_corner_rays
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.viewer.contents import Contents

NUM_POINTS = (100_000, 1_000_000, 5_000_000)
NUM_CAMERAS = 5_000
SIZE = (1280, 960)

WARM_UP_S = 4.0
"""Time in which the number of points comes to rest."""

STEP_PX = 6.0
"""Movement of the mouse between two frames."""


def synthetic_contents(num_points: int, num_cameras: int) -> Contents:
    """A hilly ground with cameras above it, in rows like those of a drone.

    Args:
        num_points: of the ground.
        num_cameras: above it.
    """
    rng = np.random.default_rng(0)
    xy = rng.uniform(-0.7, 0.7, (num_points, 2))
    points = np.column_stack([xy, 0.06 * np.sin(9 * xy[:, 0]) * np.cos(7 * xy[:, 1])]).astype(np.float32)
    side = int(np.ceil(np.sqrt(num_cameras)))
    grid = np.stack(np.meshgrid(*[np.linspace(-0.65, 0.65, side)] * 2), axis=-1).reshape(-1, 2)[:num_cameras]
    poses = [Rigid3.look_at(np.array([x, y, 0.3]), np.array([x, y + 0.1, 0]), np.array([0, 0, 1])) for x, y in grid]
    frusta = frustum_lines(tuple(poses), (pinhole_corner_rays(640, 480),) * num_cameras, 0.01)
    none = np.zeros((0, 3), np.float32)
    return Contents(
        points=points,
        colors=rng.integers(60, 255, (num_points, 3), np.uint8),
        errors_px=np.ones(num_points, np.float32),
        model_of_point=np.zeros(num_points, np.int64),
        frusta=frusta.vertices.reshape(-1, 8, 3).astype(np.float32),
        camera_colors=order_colors(num_cameras).astype(np.float32),
        model_of_camera=np.zeros(num_cameras, np.int64),
        names=np.array([f"{row:05d}.jpg" for row in range(num_cameras)]),
        files=np.array([""] * num_cameras),
        image_sizes=np.full((num_cameras, 2), (640, 480), np.int32),
        track_starts=np.zeros(num_points + 1, np.int64),
        track_cameras=np.zeros(0, np.int32),
        track_xy=np.zeros((0, 2), np.float32),
        track_px=np.zeros(0, np.float32),
        loose_starts=np.zeros(num_cameras + 1, np.int64),
        loose_xy=np.zeros((0, 2), np.float32),
        path=none,
        errors=none,
        error_values=np.zeros(0),
        axes=np.zeros((6, 3), np.float32),
        model_names=np.array(["synthetic"]),
        eye=np.array([0.0, -1.8, 1.4]),
        up=np.array([0.0, 0.0, 1.0]),
        vertical_fov_deg=np.array(40.0),
    )


def measure(num_points: int, num_cameras: int, is_reduced: bool, seconds: float) -> dict[str, Any]:
    """Turn a window for some seconds.

    Args:
        num_points: of the scene.
        num_cameras: of the scene.
        is_reduced: with levels of detail.
        seconds: of the measurement, after the warm-up.

    Returns:
        Times in seconds and numbers of points.
    """
    from sfm_lightglue.viewer.canvas import Canvas
    from sfm_lightglue.viewer.look import Look
    from sfm_lightglue.viewer.window import Window

    contents = synthetic_contents(num_points, num_cameras)
    canvas = Canvas("benchmark", SIZE)
    start = time.perf_counter()
    window = Window(canvas, contents, Look(), is_reduced)
    window.run(lambda: window.is_at_rest)
    ready_s = time.perf_counter() - start
    times, cpu_times, begin = [], [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - begin < WARM_UP_S + seconds:
        frame_start, cpu_start = time.perf_counter(), time.process_time()
        window.drag(STEP_PX, 0.0)
        canvas.poll()
        window.advance()
        times.append(time.perf_counter() - frame_start)
        cpu_times.append(time.process_time() - cpu_start)
    warm = np.cumsum(times) > min(WARM_UP_S, 0.5 * sum(times))
    steady = np.array(times)[warm] if warm.any() else np.array(times)
    steady_cpu = np.array(cpu_times)[warm] if warm.any() else np.array(cpu_times)
    number = window.cloud.num_drawn
    rest_start = time.perf_counter()
    window.run(lambda: window.is_at_rest)
    return {
        "num_points": num_points,
        "num_cameras": num_cameras,
        "is_reduced": is_reduced,
        "num_moving_points": number,
        "frames_per_s": 1 / float(np.median(steady)),
        "cpu_s": float(np.median(steady_cpu)),
        "slowest_frame_s": float(np.quantile(steady, 0.95)),
        "first_frame_s": times[0],
        "rest_s": time.perf_counter() - rest_start,
        "ready_s": ready_s,
    }


def _row(found: dict[str, Any]) -> list[str]:
    return [
        f"{found['num_points']:,}",
        f"{found['num_cameras']:,}",
        "yes" if found["is_reduced"] else "no",
        f"{found['num_moving_points']:,}",
        f"{found['frames_per_s']:.1f}",
        f"{found['cpu_s']:.3f}",
        f"{found['slowest_frame_s']:.2f}",
        f"{found['first_frame_s']:.2f}",
        f"{found['rest_s']:.1f}",
        f"{found['ready_s']:.1f}",
    ]


HEADER = (
    "points",
    "cameras",
    "levels of detail",
    "points while moving",
    "frames per second",
    "processor s a frame",
    "slow frame (95 %) s",
    "first frame s",
    "all points again s",
    "opened s",
)


def main(argv: list[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--points", type=int, nargs="+", default=list(NUM_POINTS))
    parser.add_argument("--cameras", type=int, nargs="+", default=[0, NUM_CAMERAS])
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement (default: 6)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all numbers")
    parser.add_argument("--one", metavar="JSON", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one:
        print(json.dumps(measure(**json.loads(arguments.one))))
        return 0
    found = []
    for num_points in arguments.points:
        for num_cameras in arguments.cameras:
            for is_reduced in (False, True):
                job = {
                    "num_points": num_points,
                    "num_cameras": num_cameras,
                    "is_reduced": is_reduced,
                    "seconds": arguments.seconds,
                }
                found.append(_measured_apart(job))
                print(f"{_row(found[-1])}", file=sys.stderr, flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(markdown_table(HEADER, [_row(one) for one in found]))
    return 0


def _measured_apart(job: dict[str, Any]) -> dict[str, Any]:
    from sfm_lightglue.viewer.show import worker_environment

    command = [sys.executable, "-m", "benchmarks.viewer", "--one", json.dumps(job)]
    run = subprocess.run(command, capture_output=True, text=True, env=worker_environment(), check=False)
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
        raise SystemExit(f"error: {lines[-1]}")
    values: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return values


if __name__ == "__main__":
    sys.exit(main())
