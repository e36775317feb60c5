"""Components of other packages: found by name, imported when chosen, refused with a reason."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from pipelines.arguments import component_values
from pipelines.match import build_parser
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftExtractor
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.registry.builtin import EXPORTERS, EXTRACTORS, MAPPERS, MATCHERS, PAIR_SELECTORS
from sfm_lightglue.registry.plugins import find_plugins
from sfm_lightglue.registry.registry import Registry
from tests.helpers.checkout import ROOT

EXAMPLE = ROOT / "tests" / "plugin_example"

Install = Callable[..., None]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, installed into a folder of its own like by pip."""
    folder = tmp_path_factory.mktemp("plugin")
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (wheel,) = WheelBuilder(str(source)).build(directory=str(folder / "wheels"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site: Path, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_example_passes_the_contracts(site: Path) -> None:
    """The contract suite tests the installed package, not the source files of the example."""
    contracts = site.parent / "source" / "contracts"
    shutil.rmtree(site.parent / "source" / "sfm_corners")
    done = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:dash", str(contracts), cwd=contracts)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_a_component_that_violates_the_contract_fails_it(site: Path, tmp_path: Path) -> None:
    (tmp_path / "test_bad.py").write_text(
        "from sfm_corners.correlation import CorrelationMatcher\n"
        "from sfm_lightglue.testing import MatcherContract\n"
        "class Backwards(CorrelationMatcher):\n"
        "    def match_batch(self, pairs):\n"
        "        return super().match_batch(pairs)[::-1]\n"
        "class TestBackwards(MatcherContract):\n"
        "    @classmethod\n"
        "    def build(cls):\n"
        "        return Backwards()\n"
    )
    done = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:dash", str(tmp_path), cwd=tmp_path)
    assert done.returncode == 1
    assert "FAILED test_bad.py::TestBackwards::test_a_batch_equals_its_pairs" in done.stdout


def test_a_reconstruction_uses_the_example(site: Path, small_scene_dir: Path, tmp_path: Path) -> None:
    """Extractor, matcher and pairs are chosen by name, with an option of each."""
    done = run(
        site,
        *("-m", "pipelines", "reconstruct", str(small_scene_dir), "--output", str(tmp_path / "out"), "--json"),
        *("--quiet", "--extractor", "corners", "--max-keypoints", "700", "--set", "extractor.sharpness=0.05"),
        *("--matcher", "correlation", "--set", "matcher.min_correlation=0.7"),
        *("--pairs", "strides", "--set", "pairs.strides=[1, 2, 3]"),
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["num_registered"] >= 4
    assert summary["cache"]["by_kind"]["matches"]["misses"] == 5 + 4 + 3
    config = json.loads((tmp_path / "out" / "run.json").read_text())["config"]
    assert config["extractor"] == {"name": "corners", "max_keypoints": 700, "max_image_size": 800, "sharpness": 0.05}
    assert config["matcher"] == {"name": "correlation", "min_correlation": 0.7}
    assert config["pairs"] == {"name": "strides", "strides": [1, 2, 3]}


def test_help_and_errors_list_the_names_of_the_example(site: Path, small_scene_dir: Path) -> None:
    photos = [str(small_scene_dir / "images" / f"view_0{i}.jpg") for i in (0, 1)]
    assert "corners" in run(site, "-m", "pipelines.match", "--help").stdout
    done = run(site, "-m", "pipelines.match", *photos, "--extractor", "corner")
    assert done.returncode == 2
    assert "unknown extractor 'corner' (did you mean 'corners'?)" in done.stderr
    done = run(
        site,
        *("-m", "pipelines.match", *photos, "--extractor", "corners", "--matcher", "correlation"),
        *("--set", "extractor.sharpnes=1"),
    )
    assert done.returncode == 2
    assert "extractor corners: unknown option 'sharpnes' (did you mean 'sharpness'?)" in done.stderr


def test_only_chosen_components_are_imported(site: Path) -> None:
    code = (
        "import sys\n"
        "from sfm_lightglue.registry import EXTRACTORS, MATCHERS\n"
        "loaded = lambda: sorted(name for name in sys.modules if name.startswith('sfm_corners'))\n"
        "assert 'corners' in EXTRACTORS.names and 'correlation' in MATCHERS.names\n"
        "EXTRACTORS.build(EXTRACTORS.choose('sift'))\n"
        "assert loaded() == [], loaded()\n"
        "MATCHERS.build(MATCHERS.choose('correlation'))\n"
        "assert loaded() == ['sfm_corners', 'sfm_corners.correlation', 'sfm_corners.entries'], loaded()\n"
    )
    done = run(site, "-c", code)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package of one module, with entry points, for this process."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(package: str, code: str, entry_points: str) -> None:
        (tmp_path / f"{package}.py").write_text(code)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        find_plugins.cache_clear()

    yield write
    find_plugins.cache_clear()


GOOD = """
from dataclasses import dataclass
from sfm_lightglue.registry import Entry
@dataclass(frozen=True)
class Config:
    word: str = "hello"
def build(config):
    return config.word
ENTRY = Entry(f"{__name__}:Config", f"{__name__}:build")
"""


def extractors() -> Registry[object]:
    """A new registry with one built-in component."""
    return Registry("extractor", {"sift": EXTRACTORS._entries["sift"]}, "sfm_lightglue.extractors")


def test_a_plugin_is_built_with_its_options(install: Install) -> None:
    install("plugin_good", GOOD, "[sfm_lightglue.extractors]\nechoing = plugin_good:ENTRY\n")
    registry = extractors()
    assert {"echoing", "sift"} <= set(registry.names)
    assert registry.builtin_names == ("sift",)
    assert registry.build(registry.choose("echoing", {"word": "hi"})) == "hi"
    with pytest.raises(ConfigError, match="extractor echoing: word: expected str"):
        registry.choose("echoing", {"word": 1})


def test_a_built_in_component_keeps_its_name(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("plugin_clash", GOOD, "[sfm_lightglue.extractors]\nsift = plugin_clash:ENTRY\n")
    registry = extractors()
    with caplog.at_level(logging.WARNING):
        assert isinstance(registry.build(registry.choose("sift")), SiftExtractor)
    messages = [record.getMessage() for record in caplog.records]
    expected = "ignored extractor sift of package plugin_clash 1.0: sfm_lightglue has a component of this name"
    assert messages == [expected], "one warning"


def test_two_packages_of_one_name_are_refused_when_it_is_chosen(install: Install) -> None:
    for package in ("plugin_one", "plugin_two"):
        install(package, GOOD, f"[sfm_lightglue.extractors]\ntwice = {package}:ENTRY\n")
    registry = extractors()
    assert "twice" in registry.names
    with pytest.raises(ConfigError, match=r"extractor twice: plugin_one 1\.0 and plugin_two 1\.0 both have this name"):
        registry.choose("twice")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_library_that_is_not_here", "ModuleNotFoundError: No module named 'a_library_that_is_not_here'"),
        ("def broken(:", "SyntaxError"),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("", "AttributeError"),
        ("ENTRY = 7", r"is 7, expected a sfm_lightglue\.registry\.Entry"),
        (GOOD.replace("{__name__}:Config", "{__name__}:Konfig"), "AttributeError"),
        (GOOD.replace("@dataclass(frozen=True)", ""), "is not a dataclass"),
    ],
)
def test_a_broken_plugin_is_an_error_only_when_it_is_chosen(
    install: Install, tmp_path: Path, code: str, reason: str
) -> None:
    name = tmp_path.name  # a different name for each case, because Python caches imported modules
    install(name, code, f"[sfm_lightglue.extractors]\nbroken = {name}:ENTRY\n")
    install(f"{name}_good", GOOD, f"[sfm_lightglue.extractors]\ngood = {name}_good:ENTRY\n")
    registry = extractors()
    assert {"broken", "good", "sift"} <= set(registry.names)
    assert registry.build(registry.choose("good")) == "hello"
    with pytest.raises(ConfigError, match=reason) as caught:
        registry.choose("broken")
    assert "extractor broken" in str(caught.value)


def test_damaged_metadata_of_another_package_is_ignored(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("plugin_damaged", "", "[sfm_lightglue.extractors]\nno equals sign here\n")
    install("plugin_fine", GOOD, "[sfm_lightglue.extractors]\nfine = plugin_fine:ENTRY\n")
    with caplog.at_level(logging.WARNING):
        assert "fine" in extractors().names
    assert any("ignored a package with damaged metadata" in record.getMessage() for record in caplog.records)


def test_all_kinds_accept_plugins() -> None:
    assert [registry.group for registry in (EXTRACTORS, MATCHERS, PAIR_SELECTORS, MAPPERS, EXPORTERS)] == [
        "sfm_lightglue.extractors",
        "sfm_lightglue.matchers",
        "sfm_lightglue.pairs",
        "sfm_lightglue.mappers",
        "sfm_lightglue.exporters",
    ]


def settings(*texts: str) -> ReconstructConfig:
    flags = [part for text in texts for part in ("--set", text)]
    return ReconstructConfig.from_mapping(component_values(build_parser().parse_args(["a.jpg", "b.jpg", *flags])))


def test_any_option_can_be_set() -> None:
    config = settings(
        "extractor.edge_threshold=8", "matcher.name=nearest", "matcher.mutual = false", "two_view.min_inliers=20"
    )
    assert config.extractor.config.edge_threshold == 8.0
    assert config.matcher.config.mutual is False
    assert config.two_view.min_inliers == 20
    assert settings("pairs.name=file", "pairs.path=a list.txt").pairs.config.path == "a list.txt"


@pytest.mark.parametrize("text", ["extractor", "extractor.name", "=3", "seed=3", ".x=1"])
def test_a_setting_without_table_option_and_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected TABLE\.OPTION=VALUE"):
        settings(text)
