"""The only reader of the environment: `MASS_GOV_*` variables and a file in, one frozen `Settings` out.

Every setting has a default under which a fresh laptop works. Secrets are `SecretStr`: no log or repr shows them.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import platformdirs
from pydantic import Field, SecretStr, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from mass_gov.errors import SettingsError

CONFIG = "MASS_GOV_CONFIG"
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


def _default_home() -> Path:
    return Path(platformdirs.user_data_path("mass-gov", appauthor=False))


class Settings(BaseSettings):
    """All settings. `docs/reference/settings.md` is held against this class by a test.

    They come from options, then from the environment, then from the TOML file that MASS_GOV_CONFIG names.
    """

    model_config = SettingsConfigDict(env_prefix="MASS_GOV_", frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Field(default_factory=_default_home, description="Folder of the ledger, the keys and the checkpoints.")
    checkpoints: Path | None = Field(
        default=None, description="Folder outside the database for signed checkpoints (default: HOME/checkpoints)."
    )
    keys: Path | None = Field(
        default=None, description="Folder of the key store, outside database back-ups (default: HOME/keys)."
    )
    passphrase: SecretStr | None = Field(default=None, description="Passphrase of the key store.")
    database_url: SecretStr | None = Field(
        default=None, description="postgresql:// address of the ledger, as the application's role (default: a file)."
    )
    database_owner_url: SecretStr | None = Field(
        default=None, description="The same database as the owner of its tables; for `mass-gov init` alone."
    )
    witnesses: Path | None = Field(
        default=None, description="Your witness policy (C2SP tlog-policy): whose cosignatures `verify` counts."
    )
    witness_home: Path | None = Field(
        default=None, description="Folder of a witness of your own (default: HOME/witness)."
    )
    model: Path | None = Field(
        default=None, description="Folder of a Hugging Face causal language model (default: the shipped one)."
    )
    kept: Path | None = Field(
        default=None, description="Folder of models and anchors of other releases, for replay (default: HOME/kept)."
    )
    anchors: Path | None = Field(
        default=None, description="File of real tasks to learn from beside samples (default: the shipped ones)."
    )
    tenant: _Name = Field(default="local", description="Tenant that changes belong to.")
    deployment: _Name = Field(default="default", description="Deployment whose pointer adapts.")
    principal: _Name = Field(default="local", description="Who acts on the command line.")
    token: SecretStr | None = Field(
        default=None, description="Bearer token of a registered principal; without any, names are self-asserted."
    )
    signing_passphrase: SecretStr | None = Field(
        default=None, description="Passphrase of the key that `--sign-with` names, where nobody is asked for it."
    )
    webhook_url: str | None = Field(
        default=None, description="http(s) address that is told when something waits for a person (default: nobody)."
    )
    webhook_secret: SecretStr | None = Field(
        default=None, description="Key that signs what is sent there: `whsec_` and base64 of 24 to 64 random bytes."
    )
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads of the learner; part of the fingerprint.")
    numerics: Literal["native", "portable"] = Field(
        default="native", description="`portable` gives equal bits on every x86-64 CPU, more slowly, with one thread."
    )
    serve_host: str = Field(default="127.0.0.1", description="Address that `mass-gov serve` listens on.")
    serve_port: int = Field(default=8000, ge=0, le=65_535, description="Its port; 0 takes a free one.")
    serve_learners: int = Field(default=1, ge=0, le=64, description="Processes with a learner; 0 serves audits alone.")
    serve_queue: int = Field(default=16, ge=1, le=10_000, description="Requests that may wait for a learner.")
    serve_grace: int = Field(default=60, ge=1, le=3600, description="Seconds that requests under way get at a stop.")
    serve_verify: Literal["all", "signatures", "tree"] = Field(
        default="all", description="What of the log is verified before `mass-gov serve` is ready."
    )
    serve_outage: Literal["refuse", "unrecorded"] = Field(
        default="refuse", description="Un-adapted answers while the ledger cannot be written: none, or marked ones."
    )
    debug: bool = Field(default=False, description="Whether an unexpected error shows its traceback.")
    retention_days: int = Field(
        default=184, ge=184, le=36_525, description="Days that a sealed log is kept after its last event; 184 at least."
    )
    busy_timeout: float = Field(default=30.0, gt=0, le=3600, description="Seconds to wait for another writer.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where settings come from, the strongest first."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, _config_file(cls))

    @property
    def database(self) -> Path:
        """The embedded ledger's file, where no `database_url` says otherwise."""
        return self.home / "ledger.sqlite3"

    @property
    def checkpoint_folder(self) -> Path:
        """Where signed checkpoints go, outside the database."""
        return self.checkpoints or self.home / "checkpoints"

    @property
    def kept_folder(self) -> Path:
        """Where a replay finds the models and anchors of other releases."""
        return self.kept or self.home / "kept"

    @property
    def witness_folder(self) -> Path:
        """Where a witness of one's own lives."""
        return self.witness_home or self.home / "witness"

    @property
    def notification_folder(self) -> Path:
        """Where it is written down what the webhook was told."""
        return self.home / "notifications"

    @property
    def key_folder(self) -> Path:
        """Where the key store lies."""
        return self.keys or self.home / "keys"


def _config_file(settings: type[BaseSettings]) -> dict[str, object]:
    """What the file that MASS_GOV_CONFIG names says; nothing where it names none.

    Raises:
        SettingsError: it cannot be read, or holds what is no setting: a slip of the pen must not pass for a default.
    """
    name = os.environ.get(CONFIG)
    if not name:
        return {}
    try:
        found: dict[str, object] = tomllib.loads(Path(name).read_text("utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{CONFIG} names {name}: {why}. Give a readable TOML file.") from None
    if unknown := sorted(set(found) - set(settings.model_fields)):
        raise SettingsError(f"{name} sets {unknown[0][:60]!r}, which is no setting. See docs/reference/settings.md.")
    return found


def load_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` (from the command line) win where they are not None.

    Raises:
        SettingsError: naming the variable, what is wrong with it and what it accepts.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # values are validated by the model itself
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        raise SettingsError(
            f"MASS_GOV_{name.upper()} is not usable: {first['msg']}. See docs/reference/settings.md."
        ) from None
