"""The examples beside a policy, run: `accept/`, `hold/` and `reject/` hold changes that it must so decide.

Rules: an example stands in the folder of the verdict that it must get, and names what stands in the way; both are held
against what the policy does, by the very functions that decide about changes. `ordinary.yaml` beside them is what the
examples leave unsaid. A policy without examples was not tested, which is an error and no success.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mass_gov.errors import NotFoundError, PolicyError
from mass_gov.policy import Policy
from mass_gov.policy.examples import Example, decide_example, read_example, read_metrics
from mass_gov.records.change import Decision, Verdict

FOLDERS: dict[str, Verdict] = {"accept": "apply", "hold": "hold", "reject": "reject"}
"""Folder of examples to the verdict that each of them must get."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One example and what the policy made of it."""

    example: Example
    expected: Verdict
    decision: Decision

    @property
    def because(self) -> tuple[str, ...]:
        """What stood in the way; the decision's reason where nothing by name did."""
        return self.decision.violated or (self.decision.reason,)

    @property
    def as_it_should(self) -> bool:
        """Whether verdict and reasons are the example's."""
        return self.decision.verdict == self.expected and self.because == self.example.because


def try_examples(policy: Policy, folder: Path) -> list[Tried]:
    """Run every example beside a policy, by verdict and name.

    Raises:
        NotFoundError: there is none.
        PolicyError: one of them cannot be read.
    """
    files = [(expected, path) for name, expected in FOLDERS.items() for path in sorted((folder / name).glob("*.yaml"))]
    if not files:
        raise NotFoundError(f"there are no examples beside {policy.label}: put some into accept/, hold/ and reject/.")
    ordinary = read_metrics(_read(folder / "ordinary.yaml"), "ordinary.yaml")
    return [_try(path, expected, ordinary, policy) for expected, path in files]


def _try(path: Path, expected: Verdict, ordinary: dict[str, object], policy: Policy) -> Tried:
    example = read_example(_read(path), f"{path.parent.name}/{path.name}", ordinary, policy)
    return Tried(example, expected, decide_example(example, policy)[1])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}; give a readable file.") from None
