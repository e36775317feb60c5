"""The pages of the documentation that are generated: configuration, Python API, contributing, changelog.

`mkdocs build` calls the hook `on_files` of this module. `python scripts/docs_pages.py PAGE` prints one page.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.registry import builtin
from sfm_lightglue.registry.registry import Registry
from sfm_lightglue.tracking.config import TrackerConfig

_CONFIGURATION_HEAD = """# Configuration reference

This page is generated from the docstrings of the configuration classes.

Every option has a name `TABLE.OPTION`. There are three ways to set one:

- on the command line: `--set matcher.filter_threshold=0.2`;
- in a TOML file that `--config` names: a table `[matcher]` with the line `filter_threshold = 0.2`;
- in Python: `ReconstructConfig.from_mapping({"matcher": {"filter_threshold": 0.2}})`.

A table with a `name` selects a component, and its options are those of that component.
An unknown table, option or value is an error that names the nearest known one.
[Reproducible runs](../how-to/reproducible.md) shows a whole file.
"""

_TRACKER_HEAD = """## Options of `track`

The command `track` and `TrackerConfig` have tables of their own, beside `extractor` and `matcher` as above. The
default of `extractor.max_keypoints` for SIFT is smaller.
"""

_API_HEAD = """# Python API

This page is generated from the docstrings of all names in `sfm_lightglue.__all__`.
`import sfm_lightglue` loads no other library. Each name loads its module when it is first used.
"""

_API_GROUPS: dict[str, tuple[str, ...]] = {
    "Reconstruct a folder of photos": ("reconstruct", "ReconstructConfig", "ReconstructionResult"),
    "Two images": (
        "match_images",
        "estimate_relative_pose",
        "ImagePairResult",
        "RelativePose",
        "match_guided",
        "GuidedConfig",
    ),
    "Track a video": ("Tracker", "TrackerConfig"),
    "Densify a model": ("densify", "DensifyConfig", "DensifiedMap"),
    "Find images in a map": ("localize", "Localizer", "Localization", "LocalizeConfig"),
    "Export a model": ("export_map",),
    "Values": ("Image", "Features", "DenseFeatures", "Matches", "Camera", "Rigid3"),
    "COLMAP databases": ("read_database", "ColmapDatabase", "add_to_database", "DatabaseConfig"),
    "Hugging Face": (
        "pipeline",
        "LightGlueConfig",
        "LightGlueForKeypointMatching",
        "LightGlueImageProcessor",
        "LightGlueImageProcessorFast",
        "KeypointMatchingPipeline",
        "LightGlueKeypointMatchingOutput",
        "ExportableKeypointMatching",
        "AutoConfig",
        "AutoModel",
        "AutoModelForKeypointMatching",
        "AutoModelForKeypointDetection",
        "AutoImageProcessor",
        "SuperPointConfig",
        "SuperPointForKeypointDetection",
        "SuperPointImageProcessor",
        "SuperPointImageProcessorFast",
    ),
}
"""Order of the public names. A name that is missing here is listed under "Further names"."""


def on_files(files: Any, config: Any) -> Any:
    """Hook of MkDocs: add the generated pages to the files of the site."""
    from mkdocs.structure.files import File

    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files


def configuration_page() -> str:
    """The configuration reference: all tables, components and options."""
    sections = [_CONFIGURATION_HEAD, "## Single values\n", _options_table(ReconstructConfig, _single_values())]
    for table, registry in tables_with_name():
        sections.append(f"## `[{table}]`\n")
        sections.append(f"{_field_docs(ReconstructConfig)[table]} The default is `{_default_name(table)}`.\n")
        for name in registry.builtin_names:
            config_type = type(registry.choose(name).config)
            sections.append(f'### `[{table}]` with `name = "{name}"`\n')
            sections.append(_options_table(config_type, tuple(dataclasses.fields(config_type))))
    for table in _plain_tables():
        config_type = type(getattr(ReconstructConfig(), table))
        sections.append(f"## `[{table}]`\n")
        sections.append(f"{_field_docs(ReconstructConfig)[table]}\n")
        sections.append(_options_table(config_type, tuple(dataclasses.fields(config_type))))
    return "\n".join([*sections, *_tracker_sections()])


def _tracker_sections() -> Iterator[str]:
    """The options of `track`: single values, then its own tables; extractor and matcher are those of `reconstruct`."""
    yield _TRACKER_HEAD
    fields = dataclasses.fields(TrackerConfig)
    values = {field.name: getattr(TrackerConfig(), field.name) for field in fields}
    tables = {name for name, value in values.items() if dataclasses.is_dataclass(value)}
    yield _options_table(TrackerConfig, tuple(field for field in fields if field.name not in tables))
    for name in (field.name for field in fields if field.name in tables - {"extractor", "matcher"}):
        yield f"### `[{name}]` of `track`\n\n{_field_docs(TrackerConfig)[name]}\n"
        yield _options_table(type(values[name]), dataclasses.fields(values[name]))


def api_page() -> str:
    """The API reference: every public name, grouped."""
    import sfm_lightglue

    public = [name for name in sfm_lightglue.__all__ if not name.startswith("__")]
    groups = {title: [name for name in names if name in public] for title, names in _API_GROUPS.items()}
    grouped = {name for names in groups.values() for name in names}
    groups["Further names"] = [name for name in public if name not in grouped]
    lines = [_API_HEAD]
    for title, names in groups.items():
        if names:
            lines += [f"## {title}", "", *(f"::: sfm_lightglue.{name}\n" for name in names)]
    return "\n".join(lines)


def _root_page(name: str) -> str:
    """A page of the checkout's root, with links that start at docs/ instead."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return text.replace("](docs/", "](").replace("](CHANGELOG.md", "](changelog.md")


_NOTEBOOK = "notebooks/first-steps.ipynb"


def notebook_page() -> str:
    """The cells of the notebook; its outputs are computed by whoever runs it."""
    cells = json.loads((ROOT / "docs" / _NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    texts = []
    for cell in cells:
        source = "".join(cell["source"])
        texts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    title, *rest = texts
    link = f"[Download the notebook]({_NOTEBOOK}) and run it in Jupyter; these are its cells."
    heading, _, start = title.partition("\n")
    return "\n\n".join([f"{heading}\n\n{link}\n{start}", *rest]) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "notebook.md": notebook_page,
    "reference/configuration.md": configuration_page,
    "reference/api.md": api_page,
    "contributing.md": lambda: _root_page("CONTRIBUTING.md"),
    "changelog.md": lambda: _root_page("CHANGELOG.md"),
}
"""Generated pages by their path below docs/."""


def tables_with_name() -> Iterator[tuple[str, Registry[Any]]]:
    """Tables with a `name`, in the order of the configuration."""
    registry_from_kind = {one.kind: one for one in vars(builtin).values() if isinstance(one, Registry)}
    for field in dataclasses.fields(ReconstructConfig):
        if field.name in registry_from_kind:
            yield field.name, registry_from_kind[field.name]


def _default_name(table: str) -> str:
    return str(getattr(ReconstructConfig(), table).name)


def _plain_tables() -> list[str]:
    """Tables with options only."""
    with_name = {table for table, _ in tables_with_name()}
    names = [field.name for field in dataclasses.fields(ReconstructConfig) if field.name not in with_name]
    return [name for name in names if dataclasses.is_dataclass(getattr(ReconstructConfig(), name))]


def _single_values() -> tuple[dataclasses.Field[Any], ...]:
    tables = {table for table, _ in tables_with_name()} | set(_plain_tables())
    return tuple(field for field in dataclasses.fields(ReconstructConfig) if field.name not in tables)


def _options_table(config_type: type[Any], fields: tuple[dataclasses.Field[Any], ...]) -> str:
    if not fields:
        return "It has no options.\n"
    docs = _field_docs(config_type)
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for field in fields:
        if field.name not in docs:
            raise ValueError(f"{config_type.__name__}.{field.name} has no docstring under the field")
        meaning = docs[field.name].replace("|", "\\|")
        lines.append(f"| `{field.name}` | {_code(str(field.type))} | {_code(_default(field))} | {meaning} |")
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return _toml(field.default_factory())
    return "none" if field.default is dataclasses.MISSING else _toml(field.default)


def _toml(value: Any) -> str:
    """A value as TOML spells it; TOML has no None, which means that the option is left out."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _field_docs(config_type: type[Any]) -> dict[str, str]:
    """Docstring under each field of a dataclass, in one line, by the name of the field."""
    docs: dict[str, str] = {}
    for one in reversed(config_type.__mro__[:-1]):
        tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
        body = tree.body[0].body  # type: ignore[attr-defined]
        for field, text in itertools.pairwise(body):
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
                docs[field.target.id] = re.sub(r"\s+", " ", str(text.value.value)).strip()
    return docs


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PAGES:
        sys.exit(f"usage: python scripts/docs_pages.py PAGE, where PAGE is one of {', '.join(PAGES)}")
    print(PAGES[sys.argv[1]]())
