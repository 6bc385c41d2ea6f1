"""The tables of the results page and the shipped model card, from what `mass-gov evaluate --json` printed.

    core-SEED.json   the core rows and the ablations that a bar names, by training seed (`--weights` of that seed)
    others.json      the other rivals, on one seed
    ablations-gold.json, ablations-verifier.json   MASS with something changed
    governed.json    the shipped core as it is served under a policy (`--governed`)
    figures.json     what `--figures` wrote

Rules: every figure in them comes from these files; tests/contract renders them again and compares. Nothing is left
out: a bar that is missed says so. Points are percentage points, intervals are paired 95% intervals.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "explanation" / "results.md"
CARD = ROOT / "mass_gov" / "mass" / "trained" / "mass-gold" / "MODEL_CARD.md"
FOLDER = PAGE.with_name("results")
_MARK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

_ABOVE = 1e-9

Methods = Mapping[str, Mapping[str, Any]]
Figure = Callable[[Methods], float]


@dataclass(frozen=True)
class Bar:
    """What a figure has to be between, in points."""

    text: str
    figure: Figure
    least: float = -math.inf
    most: float = math.inf


@dataclass(frozen=True)
class Results:
    """The printed results: by training seed the core rows, then the rest and the figures."""

    core: Mapping[str, Methods]
    others: Methods
    ablations: Mapping[str, Methods]
    """By the recipe that is changed, `gold` or `verifier`; each beside a base of its own tasks."""
    governed: Mapping[str, Any]
    """The whole document: its methods, and what was decided."""
    figures: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Results:
        """What lies in `folder`. Raises FileNotFoundError for a file that is missing."""
        core = {path.stem.removeprefix("core-"): _methods(path) for path in sorted(folder.glob("core-*.json"))}
        others = _methods(folder / "others.json")
        ablations = {recipe: _methods(folder / f"ablations-{recipe}.json") for recipe in ("gold", "verifier")}
        governed, figures = (_document(folder / f"{name}.json") for name in ("governed", "figures"))
        return cls(core, others, ablations, governed, figures)


def _methods(path: Path) -> Methods:
    found: Methods = _document(path)["methods"]
    return found


def _document(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(delta: Sequence[float]) -> str:
    low, middle, high = (100 * value for value in delta)
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def core(results: Results) -> str:
    """Method by training seed: percent right and points against the base."""
    seeds = list(results.core)
    names = next(iter(results.core.values()))
    rows = []
    for name in names:
        each = [results.core[seed][name] for seed in seeds]
        cells = [f"{_percent(row['accuracy'])}, {_points(row['delta_vs_base'])}" for row in each]
        rows.append([f"`{name}`", *cells, _percent(fmean(row["accuracy"] for row in each))])
    return _rows(["method", *[f"seed {seed}" for seed in seeds], "mean"], rows)


def domains(results: Results) -> str:
    """Method by domain: percent right, mean over the training seeds."""
    first = next(iter(results.core.values()))
    names = list(first["base"]["domains"])
    rows = [[f"`{method}`", *[_mean_of(results, method, name) for name in names]] for method in first]
    return _rows(["method", *names], rows)


def _mean_of(results: Results, method: str, domain: str) -> str:
    return _percent(fmean(methods[method]["domains"][domain]["accuracy"] for methods in results.core.values()))


def others(results: Results) -> str:
    """The other rivals."""
    return _compared(results.others)


def gold_changed(results: Results) -> str:
    """`mass-gold` with something changed."""
    return _compared(results.ablations["gold"])


def verifier_changed(results: Results) -> str:
    """`mass-verifier` with something changed."""
    return _compared(results.ablations["verifier"])


def served(results: Results) -> str:
    """The core as it is served under a policy, beside what it does with nobody watching."""
    return _compared(results.governed["methods"])


def decided(results: Results) -> str:
    """What the policy decided, and what each kind of decision did to the answers that adapting would have changed."""
    found = results.governed["governed"]["by_verdict"]
    rows = [
        [verdict, str(row["n"]), str(row["gained"]), str(row["lost"]), _reasons(row["violated"])]
        for verdict, row in found.items()
    ]
    return _rows(["verdict", "changes", "right only adapted", "right only un-adapted", "limits violated"], rows)


def _reasons(violated: Mapping[str, int]) -> str:
    most = sorted(violated.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"`{gate}` {count}" for gate, count in most) or "none"


def forgetting(results: Results) -> str:
    """What the adapter that a stream of one domain ended with answers rightly in every domain."""
    rows: list[list[str]] = []
    for recipe, methods in results.ablations.items():
        base, method = methods["base"]["domains"], f"mass-{recipe}/accumulated"
        rows.append([f"(base, tasks of `{method}`)", *[_percent(base[name]["accuracy"]) for name in base]])
        for stream, found in methods[method]["forgetting"].items():
            rows.append([f"`{method}`, {stream}", *[_percent(found[name]) for name in base]])
    return _rows(["after a stream of", *base], rows)


def _compared(methods: Methods) -> str:
    """Percent right, against the base, by kind of domain, and the cost."""
    rows = [
        [
            f"`{name}`",
            _percent(row["accuracy"]),
            _points(row["delta_vs_base"]),
            *[_percent(kind["accuracy"]) for kind in row["kinds"].values()],
            f"{row['flops_per_task'] / 1e9:.2f}",
            f"{1000 * row['seconds_per_task']:.0f}",
        ]
        for name, row in methods.items()
    ]
    kinds = list(methods["base"]["kinds"])
    return _rows(["method", "right", "against base", *kinds, "GFLOP a task", "ms a task"], rows)


def _gain(name: str, other: str, kind: str | None = None) -> Figure:
    """Points by which `name` is better than `other`, overall or on the domains of a kind."""
    return lambda methods: 100 * (_share(methods[name], kind) - _share(methods[other], kind))


def _share(row: Mapping[str, Any], kind: str | None) -> float:
    return float((row if kind is None else row["kinds"][kind])["accuracy"])


def _surely(name: str, kind: str | None = None) -> Figure:
    """Lower end of the interval of the difference to the base, in points."""

    def figure(methods: Methods) -> float:
        part = methods[name] if kind is None else methods[name]["kinds"][kind]
        return 100 * float(part["delta_vs_base"][0])

    return figure


def _bars(name: str, practice: int) -> tuple[Bar, ...]:
    """The bars of a method; `practice` is what it must gain on practice domains."""
    none, other = f"{name}/no-adaptation", f"{name}/other-task-delta"
    return (
        Bar(f"`{name}` overall, base + 10", _gain(name, "base"), least=10),
        Bar(f"`{name}` overall, lower end of the interval above 0", _surely(name), least=_ABOVE),
        Bar(f"`{name}` on practice, base + {practice}", _gain(name, "base", "practice"), least=practice),
        Bar(f"`{name}` on practice, `solver-grpo` + 8", _gain(name, "solver-grpo", "practice"), least=8),
        Bar(f"`{name}` on practice, `majority-vote` + 8", _gain(name, "majority-vote", "practice"), least=8),
        Bar(f"`{name}` on practice, `/uniform` + 3", _gain(name, f"{name}/uniform", "practice"), least=3),
        Bar(f"`{other}` no gain on practice, lower end at most 0", _surely(other, "practice"), most=0),
        Bar(f"`{none}` within 4 of base", _gain(none, "base"), least=-4, most=4),
        Bar(f"`{name}` on saturated, base - 2", _gain(name, "base", "saturated"), least=-2),
    )


def bars(results: Results) -> str:
    """The bars, what each seed reached, and whether all of them did, or their mean."""
    vote = Bar(
        "`generator-vote` no gain on practice, lower end at most 0", _surely("generator-vote", "practice"), most=0
    )
    every = (*_bars("mass-gold", 20), *_bars("mass-verifier", 10), vote)
    head = ["bar", *[f"seed {seed}" for seed in results.core], "mean", "reached"]
    return _rows(head, [_bar(one, results) for one in every])


def _bar(bar: Bar, results: Results) -> list[str]:
    found = [bar.figure(methods) for methods in results.core.values()]
    good = sum(bar.least <= value <= bar.most for value in found)
    verdict = "yes" if good == len(found) else f"**{good} of {len(found)} seeds**"
    mean = fmean(found)
    if good < len(found) and bar.least <= mean <= bar.most:
        verdict += ", their mean is"
    return [bar.text, *[f"{value:+.1f}" for value in found], f"{mean:+.1f}", verdict]


def samples(results: Results) -> str:
    """What the generator writes before and after meta-training, by domain."""
    before, after = (results.figures["curriculum"][when] for when in ("before", "after"))
    shown = ("parsed", "right", "on_path", "distinct", "copies")
    rows = [
        [name, *[f"{100 * before[name][one]:.0f} to {100 * after[name][one]:.0f}" for one in shown]] for name in after
    ]
    return _rows(["domain", *[f"{one.replace('_', ' ')}, %" for one in shown]], rows)


def scorer(results: Results) -> str:
    """How well the scorer tells right from wrong samples, by domain."""
    rows = [
        [name, *[_short(row[one]) for one in ("auroc", "within_task")], str(row["right"]), str(row["wrong"])]
        for name, row in results.figures["scorer"].items()
    ]
    return _rows(["domain", "AUROC", "within a task", "right", "wrong"], rows)


def attribution(results: Results) -> str:
    """Rank correlations within a task."""
    found = results.figures["attribution"]
    names = {
        "attribution_loo": "attribution with leave-one-out",
        "score_attribution": "score with attribution",
        "score_loo": "score with leave-one-out",
    }
    return _rows(["rank correlation", "mean"], [[text, _short(found[name])] for name, text in names.items()])


def amortised(results: Results) -> str:
    """Streams of tasks about one operator: percent right and GFLOP a task over the whole stream, and the break-even."""
    rows = []
    for name, found in results.figures["amortised"].items():
        for way, curve in found["curves"].items():
            at = found["break_even"].get(way)
            pays = "" if at is None else "never" if at["tasks"] is None else f"task {at['tasks']}"
            rows.append([name, f"`{way}`", _percent(curve["accuracy"][-1]), f"{curve['flops'][-1] / 1e9:.2f}", pays])
    return _rows(["domain", "way", "right", "GFLOP a task", "`promoted` costs less from"], rows)


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


TABLES: Mapping[str, Callable[[Results], str]] = {
    one.__name__: one
    for one in (
        bars,
        core,
        domains,
        others,
        gold_changed,
        verifier_changed,
        forgetting,
        served,
        decided,
        samples,
        scorer,
        attribution,
        amortised,
    )
}


def filled(page: str, results: Results) -> str:
    """The page with every marked table rendered anew. Raises KeyError for a mark that names no table."""
    return _MARK.sub(lambda mark: f"{mark[1]}{TABLES[mark[2]](results)}{mark[3]}", page)


def main() -> None:
    """Fill the tables of the page and the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=FOLDER, help="the folder with the JSON files")
    given = parser.parse_args()
    results = Results.read(given.results)
    for page in (PAGE, CARD):
        page.write_text(filled(page.read_text(encoding="utf-8"), results), encoding="utf-8")
        print(f"filled {page}")


if __name__ == "__main__":
    main()
