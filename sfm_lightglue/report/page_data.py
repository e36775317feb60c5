"""The values of a page: those that the template writes as text, and those that its script reads."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sfm_lightglue.colmap.model_table import ModelTable
from sfm_lightglue.colmap.pair_counts import DatabaseCounts, matched_keypoints
from sfm_lightglue.drawing.scene import ViewScene, build_scene
from sfm_lightglue.report.advice import Finding, findings
from sfm_lightglue.report.charts import DrawnPair, bars_svg, histogram_svg, map_svg, matrix_svg
from sfm_lightglue.report.images_table import DoubtfulPair, ImageRow
from sfm_lightglue.report.packed_model import PackingLimits, packed_model, packed_xy
from sfm_lightglue.report.photos import Photo, thumbnail_atlas
from sfm_lightglue.report.sources import ReportSources

MAX_MATCHES_OF_DOUBTFUL_PAIR = 200
"""Matches of a doubtful pair that the page can draw; of more, evenly spaced ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """All that a page is made of.

    Args:
        sources: of the results.
        table: the model; None without one.
        counts: of the database.
        rows: of all images.
        doubtful: pairs.
        photos: by name of the image.
        limits: of the packed model.
    """

    sources: ReportSources
    table: ModelTable | None
    counts: DatabaseCounts
    rows: tuple[ImageRow, ...]
    doubtful: tuple[DoubtfulPair, ...]
    photos: Mapping[str, Photo]
    limits: PackingLimits

    @property
    def idx_from_name(self) -> dict[str, int]:
        """Row of each image."""
        return {row.name: index for index, row in enumerate(self.rows)}

    def drawn_pairs(self) -> list[DrawnPair]:
        """The pairs of the database whose images are in the report."""
        known = self.idx_from_name
        return [
            DrawnPair(known[pair.names[0]], known[pair.names[1]], pair.num_inliers)
            for pair in self.counts.pairs
            if set(pair.names) <= known.keys()
        ]


def data_of_script(gathered: Gathered, urls: Mapping[str, str]) -> dict[str, Any]:
    """What the script of the page reads.

    Args:
        gathered: the content.
        urls: of the photos, by name of the image.
    """
    known, photos, table = gathered.idx_from_name, gathered.photos, gathered.table
    atlas = thumbnail_atlas([photos[row.name].thumbnail if row.name in photos else None for row in gathered.rows])
    turns = {name: photo.quarter_turns for name, photo in photos.items()}
    has_model = table is not None and len(table.names) > 0
    return {
        "images": [row.as_dict() | {"photo": urls.get(row.name)} for row in gathered.rows],
        "aspects": _aspects(gathered),
        "pairs": [
            [known[pair.names[0]], known[pair.names[1]], pair.num_matches, pair.num_inliers]
            for pair in gathered.counts.pairs
            if set(pair.names) <= known.keys()
        ],
        "doubtful": _matches_of_doubtful_pairs(gathered),
        "atlas": {"url": jpeg_url(atlas.jpeg), "columns": atlas.num_columns, "rows": atlas.num_rows},
        "model": packed_model(table, known, turns, gathered.limits) if table is not None and has_model else None,
    }


def _aspects(gathered: Gathered) -> list[float]:
    """Width divided by height of each upright photo; of an image without one, that of its camera."""
    table, photos = gathered.table, gathered.photos
    sizes = {} if table is None else {name: one.size for name, one in zip(table.names, table.cameras, strict=True)}
    aspects = []
    for row in gathered.rows:
        photo = photos.get(row.name)
        width, height = sizes.get(row.name, (3, 2)) if photo is None else photo.size
        is_turned = photo is not None and photo.quarter_turns % 2 == 1
        aspects.append(round(height / width if is_turned else width / height, 6))
    return aspects


def _matches_of_doubtful_pairs(gathered: Gathered) -> list[dict[str, Any]]:
    database, known, photos = gathered.sources.database, gathered.idx_from_name, gathered.photos
    drawn = []
    for pair in gathered.doubtful:
        if database is None or not set(pair.names) <= photos.keys():
            continue
        found = matched_keypoints(database, pair.names)
        step = max(1, -(-len(found.xy0) // MAX_MATCHES_OF_DOUBTFUL_PAIR))
        sides = [
            packed_xy(xy[::step], photos[name].size, photos[name].quarter_turns)
            for xy, name in zip((found.xy0, found.xy1), pair.names, strict=True)
        ]
        inliers = found.inlier_mask[::step].astype(int).tolist()
        drawn.append({"images": [known[name] for name in pair.names], "xy": sides, "inliers": inliers})
    return drawn


def jpeg_url(data: bytes) -> str:
    """A `data:` address of a JPEG file."""
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def values_of_template(gathered: Gathered, title: str, wording: Callable[[str], str]) -> dict[str, Any]:
    """What the template writes as text.

    Args:
        gathered: the content.
        title: of the page.
        wording: of the advice.
    """
    sources, table = gathered.sources, gathered.table
    summary, record = sources.summary, sources.record
    has_checks = "models" in summary  # the record of `track` has none
    pairs = gathered.drawn_pairs()
    seconds = {name: value for name, value in summary.get("seconds", {}).items() if name != "total"}
    return {
        "title": title,
        "figures": _figures(gathered),
        "findings": _worded(findings(summary, sources.model_path), wording) if has_checks else (),
        "has_record": bool(record),
        "has_checks": has_checks,
        "has_model": table is not None and len(table.names) > 0,
        "model_path": sources.model_path,
        "verdict": _verdict(sources),
        "rows": gathered.rows,
        "has_photos": bool(gathered.photos),
        "pairs_text": summary.get("pairs", ""),
        "num_pairs": len(pairs),
        "num_verified": sum(pair.num_inliers > 0 for pair in pairs),
        "matrix": matrix_svg(len(gathered.rows), pairs) if pairs else "",
        "map": _map(gathered, pairs),
        "doubtful": [(*(gathered.idx_from_name[name] for name in pair.names), pair) for pair in gathered.doubtful],
        "models": summary.get("models", ()),
        "residuals": "" if table is None else histogram_svg(table.residuals_px, "Residuals of all observations in px"),
        "stages": bars_svg(seconds, "s", "Time of each stage") if any(seconds.values()) else "",
        "total_s": summary.get("seconds", {}).get("total"),
        "peak_memory_mb": summary.get("peak_memory_mb"),
        "memory": bars_svg(summary.get("peak_memory_mb_by_stage") or {}, "MiB", "Largest memory by the end of a stage")
        if summary.get("peak_memory_mb_by_stage")
        else "",
        "cache": summary.get("cache", {}).get("by_kind", {}),
        "config": config_tables(record.get("config", {})),
        "versions": record.get("versions", {}),
    }


def _worded(found: tuple[Finding, ...], wording: Callable[[str], str]) -> tuple[Finding, ...]:
    return tuple(replace(one, text=wording(one.text), advice=wording(one.advice)) for one in found)


def _figures(gathered: Gathered) -> list[tuple[str, str]]:
    """The large numbers at the top: value and name."""
    summary, table = gathered.sources.summary, gathered.table
    figures = []
    if "num_images" in summary:
        figures.append((f"{summary['num_registered']} of {summary['num_images']}", "images with a pose"))
    elif table is not None:
        figures.append((str(len(table.names)), "images with a pose"))
    if table is not None:
        num_points = len(table.arrays.points)
        figures.append((f"{num_points:,}".replace(",", " "), "points"))
        if num_points:
            figures.append((f"{len(table.point_idx) / num_points:.2f}", "images a point (track length)"))
    if summary.get("mean_reprojection_error_px"):
        figures.append((f"{summary['mean_reprojection_error_px']:.2f} px", "mean reprojection error"))
    if summary.get("num_pairs"):
        figures.append((f"{summary['num_verified_pairs']} of {summary['num_pairs']}", "pairs verified"))
    if summary.get("seconds", {}).get("total"):
        figures.append((f"{summary['seconds']['total']:.1f} s", "in all"))
    return figures


def _verdict(sources: ReportSources) -> str:
    models: Sequence[Mapping[str, Any]] = sources.summary.get("models", ())
    return next((one.get("verdict", "") for one in models if one.get("path") == sources.model_path), "")


def _map(gathered: Gathered, pairs: Sequence[DrawnPair]) -> str:
    scene = drawn_scene(gathered.table)
    if scene is None or gathered.table is None:
        return ""
    known = gathered.idx_from_name
    return map_svg(scene, [known[name] for name in gathered.table.names], pairs, [row.name for row in gathered.rows])


def drawn_scene(table: ModelTable | None) -> ViewScene | None:
    """The model from its viewpoint; None without cameras."""
    return build_scene(table.arrays, aspect=1.5) if table is not None and table.names else None


def config_tables(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Options by table, as text; those without a table first."""
    plain = [(name, _shown(value)) for name, value in config.items() if not isinstance(value, dict)]
    tables = [
        (name, [(option, _shown(value)) for option, value in table.items()])
        for name, table in config.items()
        if isinstance(table, dict)
    ]
    return ([("general", plain)] if plain else []) + tables


def _shown(value: Any) -> str:
    if value is None or value == "" or value == []:
        return "not set"
    return "on" if value is True else "off" if value is False else str(value)
