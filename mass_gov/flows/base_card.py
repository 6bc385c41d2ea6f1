"""The model card and the learning curve of a base training run.

Rules: the card says nothing that was not measured in that run, every share comes with its n and a 95% interval, and
limits stand beside results. Does not train or measure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mass_gov.flows.base_figures import DomainFigures, Probe, Share
from mass_gov.mass.pretraining import Recipe, rate_factor
from mass_gov.tasks.registry import DOMAINS

if TYPE_CHECKING:
    from mass_gov.flows.base_train import BaseTrainReport

Milestones = Sequence[Mapping[str, Any]]  # {"step": s, "solved": {domain: {"easy": share, "hard": share}}}
_WINDOW = 50  # steps averaged into one point of the curve


def write_curves(folder: Path, losses: Sequence[float], milestones: Milestones, recipe: Recipe) -> None:
    """curves.json and curves.png: loss (mean of 50 steps), rate factor, shares solved at the milestones."""
    starts = range(0, len(losses) - _WINDOW + 1, _WINDOW) if len(losses) >= _WINDOW else range(1)
    points = [
        {
            "step": min(start + _WINDOW, len(losses)),
            "loss": round(sum(losses[start : start + _WINDOW]) / len(losses[start : start + _WINDOW]), 4),
            "rate_factor": round(rate_factor(recipe, start), 4),
        }
        for start in starts
    ]
    text = json.dumps({"loss": points, "milestones": list(milestones)}, indent=1)
    (folder / "curves.json").write_text(text + "\n", encoding="utf-8")
    _draw(folder / "curves.png", points, milestones)


def _draw(path: Path, points: Sequence[Mapping[str, float]], milestones: Milestones) -> None:
    import matplotlib  # noqa: PLC0415  (slow to import, and only wanted here)

    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(7, 7), sharex=True)
    above.plot([p["step"] for p in points], [p["loss"] for p in points], color="black")
    above.set_ylabel("loss, nats per token")
    above.set_title("Base training: loss, and share of tasks solved (line: hard, dashes: easy)")
    steps = [one["step"] for one in milestones]
    for index, name in enumerate(DOMAINS):
        for split, style in (("hard", "-"), ("easy", "--")):
            shares = [one["solved"][name][split] for one in milestones]
            below.plot(steps, shares, style, color=f"C{index}", label=name if split == "hard" else None)
    below.set_ylim(0, 1)
    below.set_xlabel("step")
    below.set_ylabel("share solved")
    below.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=90, metadata={"Software": None})
    pyplot.close(figure)


def write_card(path: Path, report: BaseTrainReport, milestones: Milestones, shares: Mapping[str, int]) -> None:
    """MODEL_CARD.md."""
    parts = [_head(report), _recipe(report, shares), _results(report), _room(report, milestones), _LIMITS]
    path.write_text("\n".join(parts), encoding="utf-8")


def _head(report: BaseTrainReport) -> str:
    settings = report.settings
    return f"""# Reference base model of mass-gov

A Llama of {report.parameters:,} parameters (float32, one token per character), trained from scratch on generated
mathematics by `mass-gov train base --seed {settings.seed} --steps {settings.steps}`. It exists so that adaptation,
its tests and its evaluation run for real on any laptop. It is both solver and generator:

    Q <question>            it continues   <working>#<answer>
    A
    T <task>                it continues   <practice question>
    P                                      A <working>#<answer>

Intended use: the shipped demonstration, tests and evaluations of mass-gov. Not intended for anything else.
"""


def _recipe(report: BaseTrainReport, shares: Mapping[str, int]) -> str:
    settings, one = report.settings, report.settings.architecture
    minutes, cpu = report.wall_seconds / 60, report.cpu_seconds / settings.threads / 60
    mixture = ", ".join(f"{name} {share}%" for name, share in shares.items())
    return f"""## Recipe

| | |
|---|---|
| architecture | {one.layers} layers, width {one.hidden}, {one.heads} heads, MLP {one.mlp}, tied embeddings |
| positions | {one.positions}, RoPE base {one.rope_theta:g} |
| optimizer | Muon on matrices, AdamW on embeddings and norms |
| rates | warm-up of 100 steps, constant, linear decay over the last {settings.decay} |
| steps, batch | {settings.steps} x {settings.batch} sequences, {report.tokens:,} tokens with padding |
| seed, threads | {settings.seed}, {settings.threads} |
| mixture | {mixture}; {settings.practise_percent}% of all examples teach to write practice |
| data digest | `{report.data_digest}` (SHA-256 chained over all examples in order) |
| time of the steps | {minutes:.1f} min wall on a shared machine, {cpu:.1f} min of CPU time per thread |

Only the easy split is ever drawn for training: as question to solve, as task to write practice for, and as practice
problem. Held-out operators, rules and compositions (each domain's docstring says which) appear in no example.
"""


def _results(report: BaseTrainReport) -> str:
    n = report.settings.card_tasks
    rows = "\n".join(_result_row(name, figures) for name, figures in report.figures.items())
    writing = "\n".join(
        f"| {name} | {_percent(f.parses)} | {_percent(f.correct)} | {f.copies.right} of {f.copies.n} |"
        for name, f in report.figures.items()
    )
    return f"""## Results

Share solved, greedy decoding, n = {n} per cell, 95% Wilson interval. *Sub-problems* are those of the hard tasks.

| domain | kind | easy | sub-problems | hard | chance |
|---|---|---|---|---|---|
{rows}

Practice written for the same hard tasks, one sample each at temperature 1, n = {n}:

| domain | parses | parses and is correct | equals the task |
|---|---|---|---|
{writing}
"""


def _result_row(name: str, figures: DomainFigures) -> str:
    one = DOMAINS[name]
    cells = " | ".join(_percent(share) for share in (figures.easy, figures.sub, figures.hard))
    return f"| {name} | {one.kind} | {cells} | {100 * one.chance:.0f}% |"


def _room(report: BaseTrainReport, milestones: Milestones) -> str:
    rows = "\n".join(_probe_row(name, probe) for name, probes in report.probes.items() for probe in probes)
    history = "\n".join(
        f"| {one['step']} | "
        + " | ".join(
            f"{100 * one['solved'][name]['easy']:.0f} / {100 * one['solved'][name]['hard']:.0f}" for name in DOMAINS
        )
        + " |"
        for one in milestones
    )
    return f"""## Room for adaptation

{_STOPPING_RULE}

| step | {" | ".join(DOMAINS)} |
|---|{"---|" * len(DOMAINS)}
{history}

(easy / hard, percent solved.) Oracle-practice probe: one SGD step (LoRA rank 8 on o_proj and down_proj) on
six right sub-problems of a hard task, then the hard task itself.

| domain | rate | gain in log p(gold solution), nats | tasks helped | solved before | after |
|---|---|---|---|---|---|
{rows}
"""


def _probe_row(name: str, probe: Probe) -> str:
    cells = " | ".join(_percent(share) for share in (probe.helped, probe.before, probe.after))
    return f"| {name} | {probe.rate:g} | {probe.gain:+.3f} | {cells} |"


def _percent(share: Share) -> str:
    low, high = share.interval
    return f"{100 * share.value:.0f}% ({100 * low:.0f}-{100 * high:.0f})"


_STOPPING_RULE = """Stopping rule: the number of steps was chosen so that the decay ends when easy tasks are mostly
solved, aiming at 20-60% of the hard ones of every non-saturated domain; training on would close the gap
that adaptation is there to close. The table above says where each domain landed.
`docs/decisions/0005-base-model-recipe.md` has the runs behind it."""

_LIMITS = """## Limits

- It knows six families of generated problems and nothing else; on other text it writes nonsense.
- Its practice is imperfect on purpose: some does not parse, some is wrong. Gates and scorers have to cope with that.
- Easy figures include questions that training may have shown; hard figures can't.
- The weights are reproducible on the same machine with the same thread count; other CPUs differ in the last bits.
"""
