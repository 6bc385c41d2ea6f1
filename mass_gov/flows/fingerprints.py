"""Two numeric environments side by side: what differs, which numeric stage that touches, and what nobody recorded.

Rules: a part that the older fingerprint's format did not know yet is `not recorded`. It is no difference, because
nobody looked at it then, and no agreement either: whoever compares says so. Absence means more where a format knew the
part: a variable was not set. Parts that portable numerics leaves out differ from nothing. Canaries are measured, the
rest is declared: where canaries differ, this machine computes that stage with other bits, whatever else agrees.

Pure values; imports neither torch nor a ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Parts = Mapping[str, Any]

_CANARIES = {
    "canary.prefill": "prefill (reading a prompt)",
    "canary.decode": "single-row decode (writing a token)",
    "canary.step": "the adaptation step (its gradients)",
}
_ALL = "prefill, decode and step"
_TOUCHES: tuple[tuple[str, str, str], ...] = (
    # the name begins with, what it is, what it touches
    ("numerics", "which kernels may be taken", _ALL),
    ("cpu.", "the CPU, by which libraries choose their kernels", _ALL),
    ("torch.cpu_capability", "the instruction set of torch's kernels", _ALL),
    ("torch.config", "the build of torch", _ALL),
    ("torch.threads", "the number of threads, which splits sums", _ALL),
    ("torch.", "a setting of torch", _ALL),
    ("package.torch", "the release of torch", _ALL),
    ("package.transformers", "the release that computes the model", _ALL),
    ("package.peft", "the release that computes adapters", _ALL),
    ("package.numpy", "random numbers and density ratios", "sampling and gates, no numeric stage of the model"),
    ("package.sc", "density ratios of samples", "gates, no numeric stage of the model"),
    ("package.", "how texts and weights are read", "tokens and weights, before any numeric stage"),
    ("env.NPY", "kernels of numpy", "gates, no numeric stage of the model"),
    ("env.OPENBLAS", "kernels of numpy and scipy", "gates, no numeric stage of the model"),
    ("env.GLIBC", "kernels of the C library's exp and log", "sampling and gates, and plain kernels of torch"),
    ("env.", "a variable that steers kernels or threads", _ALL),
    ("libc", "the C library's exp and log", "sampling and gates, and plain kernels of torch"),
    ("attention", "how attention is computed", _ALL),
    ("device", "where the model computes", _ALL),
    ("dtype", "the precision of the model", _ALL),
    ("batching.decode", "padding and composition of decoding batches", "prefill and decode"),
    ("batching.update", "padding and composition of the step's batch", "step"),
    ("sampling", "the random numbers that samples are drawn with", "sampling, no numeric stage of the model"),
    ("platform", "the operating system and the kind of CPU", _ALL),
    ("python", "the interpreter", "gates, no numeric stage of the model"),
)
_SINCE_2 = frozenset(
    {
        "format",
        "batching.decode",
        "batching.update",
        "package.scikit-learn",
        "package.scipy",
        "env.DNNL_DEFAULT_FPMATH_MODE",
        "env.GLIBC_TUNABLES",
        "env.MKL_DEBUG_CPU_TYPE",
        "env.MKL_ENABLE_INSTRUCTIONS",
        "env.NPY_DISABLE_CPU_FEATURES",
        "env.NPY_ENABLE_CPU_FEATURES",
        "env.OPENBLAS_NUM_THREADS",
        *_CANARIES,
    }
)
"""What format 1, which had no number, did not record."""
_FORMATS = (2,)
"""Numbered formats whose parts are understood here."""
_BY_CPU = ("cpu.", "env.", "torch.cpu_capability", "torch.config_sha256")
"""What portable numerics leaves out, or shares with no native process."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What came out. `different` has the recorded and the present value of each part that differs."""

    different: dict[str, tuple[Any, Any]]
    not_recorded: tuple[str, ...]
    numerics: tuple[str, str]
    canaries: bool
    """Whether both sides have all of them."""
    unknown_format: Any = None
    """The recorded format, where it is one that this release does not know."""

    @property
    def stages(self) -> tuple[str, ...]:
        """The numeric stages that were measured to differ, in the order in which they happen."""
        return tuple(name.removeprefix("canary.") for name in _CANARIES if name in self.different)

    def words(self, there: str = "when it was recorded") -> tuple[str, ...]:
        """What a person should know, a sentence each; nothing where all was recorded and nothing differs."""
        said = []
        if self.unknown_format is not None:
            form = f"of format {self.unknown_format}, which this release does not know"
            said.append(f"the fingerprint {there} is {form}: what its parts mean may have changed")
        was, now = self.numerics
        if was != now:
            said.append(f"numerics was {was} {there} and is {now} here: compare under MASS_GOV_NUMERICS={was}")
        if self.stages:
            first = _CANARIES[f"canary.{self.stages[0]}"]
            said.append(f"{first} has other bits here; canaries that differ: {', '.join(self.stages)}")
        elif self.different and self.canaries:
            said.append("the canaries of prefill, decode and step agree")
        if self.not_recorded:
            said.append(f"not recorded {there}, so not compared: {', '.join(self.not_recorded)}")
        return tuple(said)


def compare(recorded: Parts, present: Parts) -> Compared:
    """Hold a recorded fingerprint against one of now, or any two."""
    unknown = _SINCE_2 if "format" not in recorded else frozenset[str]()
    pair = (str(recorded.get("numerics", "native")), str(present.get("numerics", "native")))
    names = sorted((recorded.keys() | present.keys()) - {"format", "numerics"})
    asked = [name for name in names if name not in unknown and not (_left_out(name) and pair[0] != pair[1])]
    different = {
        name: (recorded.get(name), present.get(name)) for name in asked if recorded.get(name) != present.get(name)
    }
    if pair[0] != pair[1]:
        different["numerics"] = pair
    form = recorded.get("format")
    newer = form if form is not None and form not in _FORMATS else None
    if newer is not None:
        different["format"] = (newer, present.get("format"))
    silent = tuple(name for name in names if name in unknown and name in present)
    sung = all(name in one for name in _CANARIES for one in (recorded, present))
    return Compared(dict(sorted(different.items())), silent, pair, sung, newer)


def touches(name: str) -> tuple[str, str]:
    """What a part of a fingerprint is, and which numeric stage a difference in it touches."""
    if name in _CANARIES:
        return "measured: a canary", _CANARIES[name]
    found = next(((what, stage) for start, what, stage in _TOUCHES if name.startswith(start)), None)
    return found or ("a part that this release does not know", "unknown")


def _left_out(name: str) -> bool:
    return name.startswith(_BY_CPU)
