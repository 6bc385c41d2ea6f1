"""The recipes of `mass-gov train meta`: what each changes in the settings, and how its result is used. No torch.

Rules: one table; a recipe is a name for settings and for the method that validates it, never for code. Does not know
how anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

from mass_gov.errors import InputError, NotFoundError
from mass_gov.mass.meta_values import MetaSettings


@dataclass(frozen=True, slots=True)
class MetaRecipe:
    """One way to meta-train.

    Args:
        about: what it is, in a line.
        changes: fields of MetaSettings that differ from the defaults.
        method: the method of `mass-gov evaluate` that its validation runs.
        folder: what `mass-gov evaluate --weights DIR` calls its folder.
    """

    about: str
    changes: Mapping[str, Any]
    method: str
    folder: str

    def settings(self, **given: Any) -> MetaSettings:
        """The defaults, this recipe's changes, then what was given. Raises SettingsError for what means nothing."""
        return MetaSettings(**{**self.changes, **given})


def _recipe(about: str, method: str, folder: str, **changes: Any) -> MetaRecipe:
    return MetaRecipe(about, MappingProxyType(changes), method, folder)


RECIPES: Mapping[str, MetaRecipe] = MappingProxyType(
    {
        "mass-gold": _recipe("MASS on reference solutions", "mass-gold", "mass-gold"),
        "mass-verifier": _recipe(  # a 0/1 reward says less of a task than a solution does: more steps
            "MASS on 0/1 rewards",
            "mass-verifier",
            "mass-verifier",
            outer="verifier",
            steps=300,
            test_temperature=2.3,
        ),
        "first-order": _recipe(
            "mass-gold without second derivatives", "mass-gold", "mass-gold-first-order", first_order=True
        ),
        "alignment-scorer": _recipe(
            "mass-gold with a scorer trained by gradient alignment, not through the update",
            "mass-gold",
            "mass-gold-alignment-scorer",
            scorer="alignment",
        ),
        "solver-sft": _recipe(
            "fine-tuning on the same reference solutions, no update", "solver-sft", "solver-sft", practice="none"
        ),
        "solver-grpo": _recipe(
            "plain RL on the same 0/1 rewards, no update",
            "solver-grpo",
            "solver-grpo",
            practice="none",
            outer="verifier",
        ),
        "rewrite-grpo": _recipe(
            "plain RL on rewriting the task, then answering", "rewrite-grpo", "rewrite-grpo", practice="rewrite"
        ),
        "maml-demos": _recipe(
            "a start and step sizes for the task's own demonstrations, no generator",
            "maml-demos",
            "maml-demos",
            practice="demonstrations",
        ),
    }
)


def find_recipe(name: str) -> MetaRecipe:
    """The recipe of this name. Raises NotFoundError with the known names."""
    if name not in RECIPES:
        raise NotFoundError(f"there is no recipe {name!r}. Use one of: {', '.join(RECIPES)}.")
    return RECIPES[name]


def with_setting(settings: MetaSettings, text: str) -> MetaSettings:
    """`settings` with NAME=VALUE, NAME as in MetaSettings (`rates.model` and `lora.rank` for what it holds).

    Raises InputError for a name that is not there or a value of another type.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set takes NAME=VALUE, got {text!r}. Write, say, --set kl_weight=0.05.")
    changed: MetaSettings = _changed(settings, name.strip().split("."), value.strip(), text)
    return changed


def _changed(holder: Any, path: list[str], value: str, text: str) -> Any:
    known = {field.name: getattr(holder, field.name) for field in fields(holder)}
    old = known.get(path[0])
    if old is None or is_dataclass(old) is (len(path) == 1):
        raise InputError(f"--set {text}: there is no setting {path[0]!r}. Use one of: {', '.join(known)}.")
    new = _changed(old, path[1:], value, text) if len(path) > 1 else _value(old, value, text)
    return replace(holder, **{path[0]: new})


def _value(old: Any, value: str, text: str) -> Any:
    """The text as a value of the old one's type."""
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[value]
        if isinstance(old, tuple):
            return tuple(sorted(part for part in value.split(",") if part))
        return type(old)(value)
    except (KeyError, ValueError) as error:
        raise InputError(f"--set {text}: {value!r} is no {type(old).__name__}. Correct the value.") from error
