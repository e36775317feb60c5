"""Keywords of `from_pretrained` in `transformers`: which act, which are passed over, and which are refused."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NoReturn

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.weights.hub_options import HubOptions

WITHOUT_EFFECT = frozenset(
    {
        "adapter_kwargs",
        "attn_implementation",  # attention is always that of torch, or written out where its weights are requested
        "code_revision",
        "disable_mmap",
        "experts_implementation",
        "fusion_config",
        "low_cpu_mem_usage",
        "max_memory",
        "mirror",
        "offload_buffers",
        "offload_folder",
        "offload_state_dict",
        "proxies",  # come from the environment
        "quantization_config",
        "resume_download",  # is always done
        "tqdm_class",
        "trust_remote_code",  # False; True is refused
        "use_fast",
        "use_safetensors",
        "weights_only",  # always true
    }
)
"""Keywords that need nothing here; they are named in one warning."""

_INTERNAL = frozenset({"_commit_hash", "_configuration_file", "_fast_init", "_from_auto", "_from_pipeline"})
_REFUSED = {
    "trust_remote_code": "code that comes with weights is not run; the detectors are built in",
    "from_tf": "weights of TensorFlow are not read; save them with torch",
    "from_flax": "weights of Flax are not read; save them with torch",
    "push_to_hub": "this library uploads nothing; use `huggingface_hub.upload_folder` on the folder",
}
"""Keywords that are refused if they are true, with the reason."""

_LOGGER = logging.getLogger(__name__)


def split_keywords(keywords: Mapping[str, Any], caller: str) -> tuple[HubOptions, dict[str, Any]]:
    """Separates the keywords that choose files from those of the loaded object.

    Args:
        keywords: of a `from_pretrained`, by their names in `transformers`; `use_auth_token` is the former `token`.
        caller: for messages, such as "LightGlueConfig.from_pretrained".

    Returns:
        Version and access of the files; and the keywords that are left. Those of `WITHOUT_EFFECT` are dropped, and
        one warning names them.

    Raises:
        ConfigError: on a refused keyword such as `trust_remote_code=True`, and on impossible values.
    """
    refuse_keywords(keywords, caller)
    left = {key: value for key, value in keywords.items() if key not in _INTERNAL and key not in _REFUSED}
    former = left.pop("use_auth_token", None)
    if left.get("token") is None and former is not None:
        left["token"] = former
    chosen = {field.name: left.pop(field.name) for field in fields(HubOptions) if field.name in left}
    hub = HubOptions(**{key: value for key, value in chosen.items() if value is not None})
    ignored = {**left, **{key: keywords[key] for key in keywords if key == "trust_remote_code"}}
    warn_without_effect(ignored, caller)
    return hub, {key: value for key, value in left.items() if key not in WITHOUT_EFFECT}


def refuse_keywords(keywords: Mapping[str, Any], caller: str) -> None:
    """Refuses what this library never does.

    Raises:
        ConfigError: with the keyword and the reason.
    """
    for name, reason in _REFUSED.items():
        if keywords.get(name):
            raise ConfigError(f"{caller}: {name}={keywords[name]!r} is refused: {reason}")


class NeverUploads:
    """What models, configurations, processors and pipelines have in common: `push_to_hub` is refused."""

    def push_to_hub(self, *arguments: Any, **keywords: Any) -> NoReturn:
        """Not supported.

        Raises:
            ConfigError: always, with the reason.
        """
        refuse_keywords({"push_to_hub": True}, type(self).__name__)
        raise AssertionError  # the line above has raised


def warn_without_effect(keywords: Mapping[str, Any], caller: str) -> None:
    """Logs one warning that names the keywords of `WITHOUT_EFFECT` that were given; None is not given."""
    names = sorted(key for key in WITHOUT_EFFECT & keywords.keys() if keywords[key] is not None)
    if names:
        _LOGGER.warning("%s: without effect here: %s", caller, ", ".join(names))
