"""Version, access and place of the files of a pretrained model, as the keywords of `from_pretrained` give them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from sfm_lightglue.errors import ConfigError

_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True, slots=True)
class HubOptions:
    """Options for repositories on the hub of Hugging Face, with their names in `transformers`.

    Raises:
        ConfigError: a value has another type, or `subfolder` leaves the repository.
    """

    revision: str | None = None
    """Branch, tag or commit; None is the main branch. A file of a branch is downloaded again when it has changed."""
    token: str | bool | None = field(default=None, repr=False)
    """For private repositories. True reads the token of Hugging Face from `$HF_TOKEN` or the file of its login; None
    does so if there is one; False sends none."""
    cache_dir: Path | None = None
    """Folder of downloads, and of the cache of Hugging Face to search; None is the default of each."""
    subfolder: str = ""
    """Folder of the files within the repository or the local folder."""
    local_files_only: bool = False
    """Whether downloads are forbidden."""
    force_download: bool = False
    """Whether files of a repository are downloaded again although there are copies on this machine."""

    def __post_init__(self) -> None:
        for name, kinds in (("revision", (str,)), ("token", (str, bool)), ("cache_dir", (str, Path))):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kinds):
                raise ConfigError(f"{name}: expected {' or '.join(kind.__name__ for kind in kinds)}, got {value!r}")
        for name in ("local_files_only", "force_download"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        subfolder = str(self.subfolder or "").strip("/")
        if not isinstance(self.subfolder, (str, Path, type(None))) or ".." in Path(subfolder).parts:
            raise ConfigError(f"subfolder: expected a folder within the repository, got {self.subfolder!r}")
        object.__setattr__(self, "subfolder", subfolder)
        object.__setattr__(self, "revision", None if self.revision in ("", "main") else self.revision)
        if self.cache_dir is not None:
            object.__setattr__(self, "cache_dir", Path(self.cache_dir).expanduser())
        if self.local_files_only and self.force_download:
            raise ConfigError("force_download=True and local_files_only=True exclude each other: remove one")

    @property
    def selects_files(self) -> bool:
        """Whether a version or a place is chosen, so that only a repository can be meant."""
        return bool(self.revision or self.subfolder or self.cache_dir)

    def bearer(self) -> str:
        """The token to send; "" for none.

        Raises:
            ConfigError: `token` is True and there is no token.
        """
        if isinstance(self.token, str):
            return self.token
        is_unwanted = self.token is None and os.environ.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "") not in ("", "0")
        if self.token is False or is_unwanted:
            return ""
        stored = next((value for name in _TOKEN_VARIABLES if (value := os.environ.get(name, "").strip())), "")
        home = Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser())
        path = Path(os.environ.get("HF_TOKEN_PATH") or home / "token")
        if not stored and path.is_file():
            stored = path.read_text(encoding="utf-8").strip()
        if self.token and not stored:
            raise ConfigError(f"token=True: there is no token in $HF_TOKEN nor at {path}; give the token itself")
        return stored
