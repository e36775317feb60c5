"""One measured reconstruction in its own process: `python reconstruction_job.py JOB.json RESULT.json`.

A new process gives correct values for peak memory and import time. Before any import, it is bound to as many cores
as it may use threads, so that no library uses more.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

_START = time.perf_counter()

MAX_IMAGE_SIZE = 1600
"""Longer side in pixels to which images are resized for COLMAP's SIFT; the default of this library."""


@dataclass(frozen=True, slots=True)
class Job:
    """The task of one process.

    Args:
        method: "colmap", or the name of a variant of "ours", whose options are in `config`.
        image_root: folder of images.
        names: images for COLMAP, all if empty; "ours" uses the whole folder.
        output: an empty folder for the results.
        num_threads: of every stage; also the number of cores of the process.
        seed: of all random numbers.
        camera: (model, parameters) of the single known camera in COLMAP's convention; None to estimate it.
        camera_mode: which images share a camera: "single", "per-image" or "auto", with EXIF data as criterion.
        config: further options of "ours", a mapping for `ReconstructConfig.from_mapping`.
        colmap_pairs: which pairs COLMAP matches: "exhaustive", "sequential", or "vocabulary" with the 30 most similar
            images by a vocabulary of the scene.
        steps: file to which a line of JSON is appended after each step of COLMAP, and after every tenth image of its
            mapping, so that a run that is stopped has told how far it came; "" for none.
    """

    method: str
    image_root: str
    output: str
    num_threads: int
    seed: int = 0
    camera: tuple[str, tuple[float, ...]] | None = None
    camera_mode: str = "single"
    names: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    colmap_pairs: str = "exhaustive"
    steps: str = ""


@dataclass(frozen=True, slots=True)
class JobResult:
    """The measurements of one process.

    Args:
        error: reason why there is no model, else "".
        model: folder of the largest model.
        num_registered: number of its images.
        num_points: number of its 3D points.
        mean_track_length: mean number of images in which a point is observed.
        mean_reprojection_error_px: of all observations.
        seconds: by stage, and "total" from the images to the written model, without imports.
        cpu_seconds: processor time of all threads in "total"; other load on the machine changes it less than times.
        import_seconds: from the start of this file to the end of the imports.
        peak_memory_mb: largest resident memory in MiB; None if the system does not report it.
    """

    error: str = ""
    model: str = ""
    num_registered: int = 0
    num_points: int = 0
    mean_track_length: float = 0.0
    mean_reprojection_error_px: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    import_seconds: float = 0.0
    peak_memory_mb: float | None = None


def run_job(job: Job) -> JobResult:
    """Reconstruct and measure.

    Raises:
        SfmError: if the job is invalid; a reconstruction without a model is a result, not an error.
    """
    return _run_colmap(job) if job.method == "colmap" else _run_ours(job)


class _Timer:
    """Times since the end of the imports."""

    def __init__(self) -> None:
        self.import_seconds = round(time.perf_counter() - _START, 3)
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._wall

    @property
    def cpu_seconds(self) -> float:
        return time.process_time() - self._cpu

    def result(self, seconds: dict[str, float], error: str = "") -> JobResult:
        """The times of a job, with the reason why it has no model."""
        rounded = {stage: round(value, 3) for stage, value in seconds.items()}
        cpu_seconds = round(self.cpu_seconds, 3)
        return JobResult(error, seconds=rounded, cpu_seconds=cpu_seconds, import_seconds=self.import_seconds)


_IMAGES_PER_STEP = 10


@dataclass(slots=True)
class _Steps:
    """Appends a line to a file after each step: its name, the registered images, and the times since the start.

    Args:
        path: of the file; "" for none.
        timer: of the job.
        num_registered: images of the model that is built; COLMAP may begin several.
    """

    path: str
    timer: _Timer
    num_registered: int = 0

    def done(self, step: str) -> None:
        """Note that a step has ended."""
        if self.path:
            times = {"seconds": round(self.timer.seconds, 1), "cpu_seconds": round(self.timer.cpu_seconds, 1)}
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "registered": self.num_registered} | times) + "\n")

    def started(self) -> None:
        """Note that a model has its first two images."""
        self.num_registered = 2
        self.done("model started")

    def added(self) -> None:
        """Count a further image of the model."""
        self.num_registered += 1
        if self.num_registered % _IMAGES_PER_STEP == 0:
            self.done("mapping")


def _run_ours(job: Job) -> JobResult:
    from sfm_lightglue.errors import ReconstructionError
    from sfm_lightglue.reconstruction.config import ReconstructConfig
    from sfm_lightglue.reconstruction.run import reconstruct

    config = ReconstructConfig.from_mapping(ours_config(job))
    output = Path(job.output)
    timer = _Timer()
    try:
        reconstruction = reconstruct(Path(job.image_root), output, config)
    except ReconstructionError as error:
        return timer.result({"total": timer.seconds}, str(error))
    result = timer.result(reconstruction.summary.seconds | {"total": timer.seconds})
    return _measured(reconstruction.model, output / "sparse" / "0", result)


def ours_config(job: Job) -> dict[str, Any]:
    """The configuration of "ours" for a job, a mapping for `ReconstructConfig.from_mapping`."""
    config = dict(job.config) | {"num_threads": job.num_threads, "seed": job.seed}
    if job.camera is not None:
        model, params = job.camera
        given = {"mode": "single", "model": model, "params": list(params), "refine": False}
        config["cameras"] = given | dict(config.get("cameras", {}))
    elif job.camera_mode == "per-image":
        config["cameras"] = {"mode": "per-image"} | dict(config.get("cameras", {}))
    return config


def _run_colmap(job: Job) -> JobResult:
    import zlib  # noqa: F401  # it cannot be loaded after pycolmap, see `sfm_lightglue/__init__.py`

    import pycolmap

    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.ERROR.value)
    pycolmap.set_random_seed(job.seed)
    output = Path(job.output)
    database = output / "database.db"
    seconds: dict[str, float] = {}
    timer = _Timer()
    steps = _Steps(job.steps, timer)
    _colmap_extract(job, database)
    seconds["extract"] = timer.seconds
    steps.done("extract")
    _colmap_match(job, database)
    seconds["match"] = timer.seconds - seconds["extract"]
    steps.done("match")
    models = pycolmap.incremental_mapping(
        database,
        job.image_root,
        output / "sparse",
        _mapping_options(job),
        initial_image_pair_callback=steps.started,
        next_image_callback=steps.added,
    )
    seconds["total"] = timer.seconds
    steps.done("map")
    seconds["map"] = seconds["total"] - seconds["extract"] - seconds["match"]
    if not models:
        return timer.result(seconds, "no model")
    best = max(models, key=lambda index: (models[index].num_reg_images(), models[index].num_points3D()))
    return _measured(models[best], output / "sparse" / str(best), timer.result(seconds))


def _colmap_extract(job: Job, database: Path) -> None:
    import pycolmap

    reader = pycolmap.ImageReaderOptions()
    if job.camera is not None:
        reader.camera_model = job.camera[0]
        reader.camera_params = ",".join(repr(value) for value in job.camera[1])
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.max_image_size = MAX_IMAGE_SIZE
    extraction.num_threads = job.num_threads
    modes = {
        "single": pycolmap.CameraMode.SINGLE,
        "per-image": pycolmap.CameraMode.PER_IMAGE,
        "auto": pycolmap.CameraMode.AUTO,
    }
    pycolmap.extract_features(
        database,
        job.image_root,
        list(job.names),
        camera_mode=modes[job.camera_mode],
        reader_options=reader,
        extraction_options=extraction,
        device=pycolmap.Device.cpu,
    )


def _colmap_match(job: Job, database: Path) -> None:
    import pycolmap

    matching = pycolmap.FeatureMatchingOptions()
    matching.num_threads = job.num_threads
    given: dict[str, Any] = {"matching_options": matching, "device": pycolmap.Device.cpu}
    if job.colmap_pairs == "sequential":
        pycolmap.match_sequential(database, **given)
    elif job.colmap_pairs == "vocabulary":
        pairing = pycolmap.VocabTreePairingOptions()
        pairing.num_images = _NUM_SIMILAR
        pairing.num_threads = job.num_threads
        pairing.vocab_tree_path = _colmap_vocabulary(job, database)
        pycolmap.match_vocabtree(database, pairing_options=pairing, **given)
    else:
        pycolmap.match_exhaustive(database, **given)


_NUM_SIMILAR, _NUM_WORDS, _MAX_TRAINING = 30, 4096, 200_000


def _colmap_vocabulary(job: Job, database: Path) -> Path:
    """A vocabulary of the descriptors of a database: without a download, COLMAP has none."""
    import numpy as np
    import pycolmap

    with pycolmap.Database.open(database) as opened:
        images = opened.read_all_images()
        per_image = max(1, _MAX_TRAINING // max(1, len(images)))
        found = [np.asarray(opened.read_descriptors(image.image_id).data)[:per_image] for image in images]
    descriptors = np.concatenate(found).astype(np.float32)
    options = pycolmap.VisualIndex.BuildOptions()
    options.num_visual_words = min(_NUM_WORDS, len(descriptors) // 40)
    options.num_iterations, options.num_rounds = 10, 1  # its default takes ten times as long
    options.num_threads = job.num_threads
    index = pycolmap.VisualIndex.create(descriptors.shape[1], 64)
    index.build(options, pycolmap.FeatureDescriptorsFloat(pycolmap.FeatureExtractorType.SIFT, descriptors))
    path = database.parent / "vocabulary.bin"
    index.write(path)
    return path


def _mapping_options(job: Job) -> Any:
    import pycolmap

    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = job.num_threads
    options.random_seed = job.seed
    options.min_model_size = 3
    if job.camera is not None:
        options.ba_refine_focal_length = False
        options.ba_refine_principal_point = False
        options.ba_refine_extra_params = False
    return options


def _measured(model: Any, folder: Path, result: JobResult) -> JobResult:
    """The times with what the model consists of."""
    has_points = model.num_points3D() > 0
    return replace(
        result,
        model=str(folder),
        num_registered=model.num_reg_images(),
        num_points=model.num_points3D(),
        mean_track_length=model.compute_mean_track_length() if has_points else 0.0,
        mean_reprojection_error_px=model.compute_mean_reprojection_error() if has_points else 0.0,
    )


def bind_to_cores(num_threads: int) -> None:
    """Limit this process to `num_threads` cores, if the system supports that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:num_threads])


def main(job_path: Path, result_path: Path) -> None:
    """Run a job from a file, and write the measurements."""
    values = json.loads(job_path.read_text(encoding="utf-8"))
    camera = values["camera"]
    values["camera"] = None if camera is None else (camera[0], tuple(camera[1]))
    job = Job(**(values | {"names": tuple(values["names"])}))
    bind_to_cores(job.num_threads)
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")  # as the commands do; COLMAP does not use OpenCV
    result = asdict(run_job(job))
    from sfm_lightglue.execution.memory import peak_memory_mb  # after `bind_to_cores`, as all imports

    result["peak_memory_mb"] = peak_memory_mb()
    result_path.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    main(Path(sys.argv[1]), Path(sys.argv[2]))
