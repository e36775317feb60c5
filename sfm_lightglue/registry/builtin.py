"""The components of this library."""

from __future__ import annotations

from sfm_lightglue.exports.base import Exporter
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.mapping.base import Mapper
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.registry.pair_registry import PairRegistry
from sfm_lightglue.registry.registry import Entry, Registry

EXTRACTORS: Registry[Extractor] = Registry(
    "extractor",
    {
        "sift": Entry("sfm_lightglue.extractors.sift:SiftConfig", "sfm_lightglue.extractors.sift:SiftExtractor"),
        "superpoint": Entry(
            "sfm_lightglue.extractors.superpoint:SuperPointConfig",
            "sfm_lightglue.extractors.superpoint:SuperPointExtractor",
            takes_device=True,
        ),
        "aliked": Entry(
            "sfm_lightglue.extractors.aliked:AlikedConfig",
            "sfm_lightglue.extractors.aliked:AlikedExtractor",
            takes_device=True,
        ),
        "xfeat": Entry(
            "sfm_lightglue.extractors.xfeat:XFeatConfig",
            "sfm_lightglue.extractors.xfeat:XFeatExtractor",
            takes_device=True,
        ),
        "disk": Entry(
            "sfm_lightglue.extractors.disk:DiskConfig",
            "sfm_lightglue.extractors.disk:DiskExtractor",
            takes_device=True,
        ),
        "doghardnet": Entry(
            "sfm_lightglue.extractors.doghardnet:DoGHardNetConfig",
            "sfm_lightglue.extractors.doghardnet:DoGHardNetExtractor",
            takes_device=True,
        ),
    },
    "sfm_lightglue.extractors",
)


MATCHERS: Registry[Matcher] = Registry(
    "matcher",
    {
        "nearest": Entry(
            "sfm_lightglue.matchers.nearest:NearestConfig", "sfm_lightglue.matchers.nearest:NearestMatcher"
        ),
        "lightglue": Entry(
            "sfm_lightglue.matchers.lightglue:LightGlueMatcherConfig",
            "sfm_lightglue.matchers.lightglue:LightGlueMatcher",
            takes_device=True,
        ),
    },
    "sfm_lightglue.matchers",
)


PAIR_SELECTORS = PairRegistry(
    "pairs",
    {
        "auto": Entry("sfm_lightglue.pairs.auto:AutoConfig", "sfm_lightglue.pairs.auto:AutoPairs"),
        "exhaustive": Entry(
            "sfm_lightglue.pairs.exhaustive:ExhaustiveConfig",
            "sfm_lightglue.pairs.exhaustive:ExhaustivePairs",
        ),
        "sequential": Entry(
            "sfm_lightglue.pairs.sequential:SequentialConfig",
            "sfm_lightglue.pairs.sequential:SequentialPairs",
        ),
        "file": Entry(
            "sfm_lightglue.pairs.from_file:PairsFromFileConfig", "sfm_lightglue.pairs.from_file:PairsFromFile"
        ),
        "spatial": Entry("sfm_lightglue.pairs.spatial:SpatialConfig", "sfm_lightglue.pairs.spatial:SpatialPairs"),
        "covisibility": Entry(
            "sfm_lightglue.pairs.covisibility:CovisibilityConfig",
            "sfm_lightglue.pairs.covisibility:CovisibilityPairs",
        ),
        "frusta": Entry("sfm_lightglue.pairs.frusta:FrustaConfig", "sfm_lightglue.pairs.frusta:FrustaPairs"),
        "retrieval": Entry(
            "sfm_lightglue.pairs.retrieval:RetrievalConfig", "sfm_lightglue.pairs.retrieval:RetrievalPairs"
        ),
    },
    "sfm_lightglue.pairs",
)

MAPPERS: Registry[Mapper] = Registry(
    "mapping",
    {
        "incremental": Entry(
            "sfm_lightglue.mapping.incremental:MappingConfig", "sfm_lightglue.mapping.incremental:IncrementalMapper"
        ),
        "global": Entry(
            "sfm_lightglue.mapping.global_mapper:GlobalMappingConfig",
            "sfm_lightglue.mapping.global_mapper:GlobalMapper",
        ),
        "hierarchical": Entry(
            "sfm_lightglue.mapping.hierarchical_mapper:HierarchicalMappingConfig",
            "sfm_lightglue.mapping.hierarchical_mapper:HierarchicalMapper",
        ),
        "known_poses": Entry(
            "sfm_lightglue.mapping.known_poses_mapper:KnownPosesConfig",
            "sfm_lightglue.mapping.known_poses_mapper:KnownPosesMapper",
        ),
        "auto": Entry(
            "sfm_lightglue.mapping.auto_mapper:AutoMappingConfig", "sfm_lightglue.mapping.auto_mapper:AutoMapper"
        ),
    },
    "sfm_lightglue.mappers",
)


def _exporter(module: str, name: str) -> Entry:
    """An entry of the package `exports`, whose classes are named alike."""
    path = f"sfm_lightglue.exports.{module}"
    return Entry(f"{path}:{name}Config", f"{path}:{name}Exporter")


EXPORTERS: Registry[Exporter] = Registry(
    "export",
    {
        "colmap": _exporter("colmap_model", "Colmap"),
        "colmap-text": Entry(
            "sfm_lightglue.exports.colmap_model:ColmapTextConfig", "sfm_lightglue.exports.colmap_model:ColmapExporter"
        ),
        "ply": _exporter("ply", "Ply"),
        "nvm": _exporter("nvm", "Nvm"),
        "bundler": _exporter("bundler", "Bundler"),
        "openmvg": _exporter("openmvg", "OpenMvg"),
        "opensfm": _exporter("opensfm", "OpenSfm"),
        "nerfstudio": _exporter("nerfstudio", "Nerfstudio"),
        "splatting": _exporter("splatting", "Splatting"),
        "tum": _exporter("tum", "Tum"),
        "kitti": _exporter("kitti", "Kitti"),
        "geojson": _exporter("geojson", "GeoJson"),
        "kml": _exporter("kml", "Kml"),
        "kapture": _exporter("kapture", "Kapture"),
    },
    "sfm_lightglue.exporters",
)
"""The formats of other programs in which models are written."""
