"""Small readers of the formats of other programs, written from their descriptions; they share no code with the library.

Each returns the projection of every image: points [N, 3] of the world -> pixels [N, 2] in COLMAP's convention.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

Projection = Callable[[np.ndarray], np.ndarray]


@dataclass
class ReadModel:
    """What a reader found. `seen` has (point, image, x, y) of each observation, pixels in COLMAP's convention."""

    project: dict[str, Projection] = field(default_factory=dict)
    xyz: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    seen: list[tuple[int, str, float, float]] = field(default_factory=list)


def brown(x, y, k=(), p=(0.0, 0.0)):
    r2 = x * x + y * y
    radial = 1 + sum(value * r2 ** (power + 1) for power, value in enumerate(k))
    return (
        x * radial + 2 * p[0] * x * y + p[1] * (r2 + 2 * x * x),
        y * radial + p[0] * (r2 + 2 * y * y) + 2 * p[1] * x * y,
    )


def fisheye(x, y, k):
    r = np.hypot(x, y)
    theta = np.arctan(r)
    factor = theta * (1 + sum(value * theta ** (2 * power + 2) for power, value in enumerate(k))) / r
    return x * factor, y * factor


def read_nvm(path: Path, size: tuple[int, int]) -> ReadModel:
    tokens = iter(path.read_text(encoding="utf-8").split())
    assert next(tokens) == "NVM_V3"
    model, names, center = ReadModel(), [], np.array(size) / 2
    for _ in range(int(next(tokens))):
        name = next(tokens).replace('"', " ")
        focal, w, x, y, z, *position = (float(next(tokens)) for _ in range(8))
        assert float(next(tokens)) == 0 and next(tokens) == "0"
        R, at_world = Rotation.from_quat([x, y, z, w]).as_matrix(), np.array(position)

        def project(points, R=R, position=at_world, focal=focal):
            at = (points - position) @ R.T
            return focal * at[:, :2] / at[:, 2:] + center

        model.project[name] = project
        names.append(name)
    xyz, colors = [], []
    for point in range(int(next(tokens))):
        xyz.append([float(next(tokens)) for _ in range(3)])
        colors.append([int(next(tokens)) for _ in range(3)])
        for _ in range(int(next(tokens))):
            image, _, x, y = int(next(tokens)), next(tokens), float(next(tokens)), float(next(tokens))
            model.seen.append((point, names[image], x + center[0], y + center[1]))
    model.xyz, model.colors = np.array(xyz), np.array(colors)
    return model


def read_bundler(folder: Path, size: tuple[int, int]) -> ReadModel:
    head, rest = (folder / "bundle.out").read_text().split("\n", 1)
    assert head == "# Bundle file v0.3"
    numbers = iter(rest.split())

    def take(count):
        return np.array([float(next(numbers)) for _ in range(count)])

    names = (folder / "list.txt").read_text(encoding="utf-8").splitlines()
    model = ReadModel()
    num_cameras, num_points = take(2).astype(int)
    assert num_cameras == len(names)
    for name in names:
        focal, k1, k2 = take(3)
        R, t = take(9).reshape(3, 3), take(3)

        def project(points, R=R, t=t, focal=focal, k=(k1, k2)):
            P = points @ R.T + t
            p = -P[:, :2] / P[:, 2:]
            r2 = (p**2).sum(axis=1, keepdims=True)
            x, y = (focal * (1 + k[0] * r2 + k[1] * r2**2) * p).T
            return np.column_stack([size[0] / 2 + x, size[1] / 2 - y])

        model.project[name] = project
    xyz, colors = [], []
    for point in range(num_points):
        xyz.append(take(3))
        colors.append(take(3))
        for image, _, x, y in take(4 * int(take(1)[0])).reshape(-1, 4):
            model.seen.append((point, names[int(image)], size[0] / 2 + x, size[1] / 2 - y))
    assert next(numbers, None) is None
    model.xyz, model.colors = np.array(xyz), np.array(colors)
    return model


def read_openmvg(path: Path) -> ReadModel:
    values = json.loads(path.read_text(encoding="utf-8"))
    data_of = {}
    name_of_type = {}
    for one in values["intrinsics"]:
        number = one["value"]["polymorphic_id"] & ~(1 << 31)
        if "polymorphic_name" in one["value"]:
            name_of_type[number] = one["value"]["polymorphic_name"]
        data_of[one["key"]] = name_of_type[number], one["value"]["ptr_wrapper"]["data"]
    pose_of = {
        one["key"]: (np.array(one["value"]["rotation"]), np.array(one["value"]["center"]))
        for one in values["extrinsics"]
    }
    model, name_of = ReadModel(), {}
    for view in values["views"]:
        data = view["value"]["ptr_wrapper"]["data"]
        name = "/".join(part for part in (data["local_path"], data["filename"]) if part)
        name_of[data["id_view"]] = name
        model.project[name] = _openmvg_projection(*data_of[data["id_intrinsic"]], *pose_of[data["id_pose"]])
    model.xyz = np.array([one["value"]["X"] for one in values["structure"]])
    for one in values["structure"]:
        for seen in one["value"]["observations"]:
            x, y = seen["value"]["x"]
            model.seen.append((one["key"], name_of[seen["key"]], x + 0.5, y + 0.5))
    return model


def _openmvg_projection(kind, data, R, center):
    base = data.get("value0", data)

    def project(points):
        at = (points - center) @ R.T
        x, y = at[:, 0] / at[:, 2], at[:, 1] / at[:, 2]
        if kind == "fisheye":
            x, y = fisheye(x, y, data["fisheye"])
        elif kind == "pinhole_brown_t2":
            x, y = brown(x, y, data["disto_t2"][:3], data["disto_t2"][3:])
        else:
            x, y = brown(x, y, data.get("disto_k3", data.get("disto_k1", ())))
        # The centre of the first pixel is (0, 0) in OpenMVG.
        return base["focal_length"] * np.column_stack([x, y]) + base["principal_point"] + 0.5

    return project


def read_opensfm(path: Path) -> ReadModel:
    (values,) = json.loads(path.read_text(encoding="utf-8"))
    model = ReadModel()
    for name, shot in values["shots"].items():
        camera = values["cameras"][shot["camera"]]
        R, t = Rotation.from_rotvec(shot["rotation"]).as_matrix(), np.array(shot["translation"])

        def project(points, camera=camera, R=R, t=t):
            at = points @ R.T + t
            x, y = at[:, 0] / at[:, 2], at[:, 1] / at[:, 2]
            kind = camera["projection_type"]
            if kind == "perspective":
                x, y = brown(x, y, (camera["k1"], camera["k2"]))
                x, y = camera["focal"] * x, camera["focal"] * y
            else:
                if kind == "brown":
                    x, y = brown(x, y, [camera[f"k{i}"] for i in (1, 2, 3)], (camera["p1"], camera["p2"]))
                else:
                    assert kind == "fisheye_opencv"
                    x, y = fisheye(x, y, [camera[f"k{i}"] for i in (1, 2, 3, 4)])
                x, y = camera["focal_x"] * x + camera["c_x"], camera["focal_y"] * y + camera["c_y"]
            longer = max(camera["width"], camera["height"])
            return np.column_stack([x, y]) * longer + (camera["width"] / 2, camera["height"] / 2)

        model.project[name] = project
    ids = sorted(values["points"], key=int)
    model.xyz = np.array([values["points"][one]["coordinates"] for one in ids])
    model.colors = np.array([values["points"][one]["color"] for one in ids])
    return model


def read_transforms(folder: Path) -> ReadModel:
    values = json.loads((folder / "transforms.json").read_text(encoding="utf-8"))
    model = ReadModel()
    for frame in values["frames"]:
        assert (folder / frame["file_path"]).is_file()
        of = values | frame

        def project(points, of=of):
            at = (np.column_stack([points, np.ones(len(points))]) @ np.linalg.inv(of["transform_matrix"]).T)[:, :3]
            x, y = at[:, 0] / -at[:, 2], -at[:, 1] / -at[:, 2]  # the camera looks along -z, and y points up
            if of["camera_model"] == "OPENCV_FISHEYE":
                x, y = fisheye(x, y, [of[f"k{i}"] for i in (1, 2, 3, 4)])
            else:
                x, y = brown(x, y, [of[f"k{i}"] for i in (1, 2, 3)], (of["p1"], of["p2"]))
            return np.column_stack([of["fl_x"] * x + of["cx"], of["fl_y"] * y + of["cy"]])

        model.project[frame["file_path"].removeprefix("images/")] = project
    model.xyz, _, model.colors = read_ply(folder / values["ply_file_path"])
    return model


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, normals and colours of a binary PLY file."""
    head, body = path.read_bytes().split(b"end_header\n", 1)
    lines = head.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(lines[2].removeprefix("element vertex "))
    types = {"float": "<f4", "uchar": "u1"}
    dtype = np.dtype([(line.split()[2], types[line.split()[1]]) for line in lines[3:]])
    vertices = np.frombuffer(body, dtype, count)
    assert len(body) == count * dtype.itemsize

    def together(*names):
        return np.column_stack([vertices[name] for name in names])

    return together("x", "y", "z"), together("nx", "ny", "nz"), together("red", "green", "blue")
