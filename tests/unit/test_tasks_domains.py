"""What the task domains promise: exact golds, held out by construction, equal on every machine."""

from __future__ import annotations

import ast
import re
from fractions import Fraction

import pytest

from mass_gov.errors import NotFoundError, TaskError
from mass_gov.tasks.domains.base import in_suite_bucket
from mass_gov.tasks.registry import DOMAINS, domain, recognise, sample_tasks
from mass_gov.tasks.task import CARD_SEEDS, META_SEEDS, SUITE_SEEDS, TRAINING_SEEDS, Task

NAMES = list(DOMAINS)
PINNED = {"linear": "3x+15=x+19", "nested": "(1*2)*(1*2)"}  # drawn once; another value would change every dataset


def _perturbed(answer: str) -> list[str]:
    number = int(answer)
    return [str(number + 1), str(number - 1), f"{answer}0", f"0{answer}", f"{answer}.", "", "x"]


def _second_opinion(task: Task) -> int:
    """Solve the question's text by other means than the domain does."""
    question = task.question
    if task.domain == "operator":
        table = {pair[0]: pair[1] for pair in question.split(":")[0].split()}
        chain = question.split(": ")[1]
        value = chain[-1]
        for _ in range(chain.count("f") + 3 * chain.count("F")):
            value = table[value]
        return int(value)
    if task.domain == "binary":
        table = {pair[0]: pair[1] for pair in question.split(":")[0].split()}
        first, *steps = re.findall(r"[&@]?[0-6]", question.split(": ")[1])
        for operator, other in steps:
            first = table[str(max(int(first), int(other)) - min(int(first), int(other)))]
            first = table[first] if operator == "@" else first
        return int(first)
    if task.domain == "nested":
        return int(_walk(ast.parse(question, mode="eval").body))
    if task.domain == "linear":
        solutions = [x for x in range(100) if _side(question.split("=")[0], x) == _side(question.split("=")[1], x)]
        assert len(solutions) == 1
        return solutions[0]
    if task.domain == "induction":
        shown = [(int(x), int(y)) for x, y in re.findall(r"([0-9])>([0-9]+)", question)]
        (x0, y0), (x2, y2) = shown[0], shown[-1]
        slope = Fraction(y2 - y0, x2 - x0)
        image = y0 + slope * (int(question.split(" ")[-1][0]) - x0)
        assert image.denominator == 1
        return int(image)
    return int(sorted(question.split()[1:])[-1])


def _rule(question: str) -> tuple[int, int]:
    """(slope, offset) by the first two demonstrations."""
    (x0, y0), (x1, y1) = ((int(x), int(y)) for x, y in re.findall(r"([0-9])>([0-9]+)", question)[:2])
    slope = (y1 - y0) // (x1 - x0)
    return slope, y0 - slope * x0


def _walk(node: ast.expr) -> int:
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int)
        return node.value
    assert isinstance(node, ast.BinOp)
    left, right = _walk(node.left), _walk(node.right)
    return {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}[type(node.op)]


def _side(text: str, x: int) -> int:
    return sum(int(t[:-1] or 1) * x if t.endswith("x") else int(t) for t in text.split("+"))


def test_an_unknown_domain_is_refused_with_the_known_names() -> None:
    with pytest.raises(NotFoundError, match=r"operator.*largest"):
        domain("chess")
    with pytest.raises(NotFoundError, match="chess"):
        sample_tasks(1, 0, domain="chess")


@pytest.mark.parametrize(("n", "seed"), [(-1, 0), (100_001, 0), (1, -1), (1, 10**6)])
def test_a_sample_outside_its_range_is_refused(n: int, seed: int) -> None:
    with pytest.raises(TaskError, match="0 <= seed < 10\\^6"):
        sample_tasks(n, seed)


def test_the_four_kinds_and_at_least_five_domains_are_there() -> None:
    assert {one.kind for one in DOMAINS.values()} == {"practice", "rewrite", "induction", "saturated"}
    assert len(DOMAINS) >= 5
    for one in DOMAINS.values():
        assert all(word in (one.__doc__ or "") for word in ("Asked", "Held out", "Hard space", "Chance")), one.name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["easy", "hard"])
def test_golds_agree_with_a_second_opinion_and_perturbed_answers_do_not_pass(name: str, split: str) -> None:
    for task in sample_tasks(300, 11, name, split):  # type: ignore[arg-type]
        assert int(task.answer) == _second_opinion(task), task
        assert DOMAINS[name].verify(task, f" {task.answer}\n")
        assert not any(DOMAINS[name].verify(task, wrong) for wrong in _perturbed(task.answer)), task
        assert task.solution.rpartition("#")[2] == task.answer


@pytest.mark.parametrize("name", NAMES)
def test_the_verifier_trusts_the_question_and_not_the_stored_gold(name: str) -> None:
    task = DOMAINS[name].sample(5, "hard")
    forged = Task(**{**{f: getattr(task, f) for f in Task.__slots__}, "answer": "999", "solution": "#999"})
    assert not DOMAINS[name].verify(forged, "999")
    assert DOMAINS[name].verify(forged, task.answer)


@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_hard_tasks_do_not_repeat_even_before_filtering(name: str) -> None:
    drawn = {DOMAINS[name].sample(seed, "hard").question for seed in range(1000)}
    assert len(drawn) > 500, "the hard space is so small that fresh seeds mostly repeat"
    assert len({task.question for task in sample_tasks(1000, 3, name)}) == 1000


@pytest.mark.parametrize("name", NAMES)
def test_no_hard_task_can_be_reached_by_training(name: str) -> None:
    one = DOMAINS[name]
    for seed in range(1500):
        easy = one.sample(TRAINING_SEEDS + seed, "easy")
        practice = one.subproblem(easy, seed)
        assert one.split_of(one.read(easy.question)) == "easy", easy
        assert one.split_of(one.read(practice.question)) == "easy", practice
        assert one.split_of(one.read(one.sample(META_SEEDS + seed, "meta").question)) == "meta"
        assert one.split_of(one.read(one.sample(seed, "hard").question)) == "hard"


def test_held_out_operators_and_rules_never_share_a_key_with_easy_ones() -> None:
    def keys(name: str, split: str, pattern: str) -> set[str]:
        tasks = [DOMAINS[name].sample(seed, split) for seed in range(2000)]  # type: ignore[arg-type]
        return {match[0] for task in tasks if (match := re.match(pattern, task.question))}

    easy, hard = keys("operator", "easy", r"[^:]+"), keys("operator", "hard", r"[^:]+")
    assert easy and hard and not easy & hard
    rules = {split: {_rule(DOMAINS["induction"].sample(s, split).question) for s in range(2000)}
             for split in ("easy", "hard")}  # fmt: skip
    assert rules["hard"] and not rules["easy"] & rules["hard"]
    shapes = {split: {re.sub("[0-9]+", "n", DOMAINS["nested"].sample(s, split).question) for s in range(2000)}
              for split in ("easy", "hard")}  # fmt: skip
    assert not shapes["easy"] & shapes["hard"]


@pytest.mark.parametrize("name", NAMES)
def test_subproblems_are_easier_or_equal_of_the_same_kind_and_never_the_task(name: str) -> None:
    one = DOMAINS[name]
    for seed in range(300):
        task = one.sample(seed, "hard")
        sub = one.subproblem(task, seed)
        assert sub.question != task.question and sub.split == "easy" and sub.kind == task.kind
        assert sub.level <= task.level and recognise(sub.question) == name
        assert sub == one.subproblem(task, seed)


def test_practice_for_an_operator_in_general_has_another_answer_than_the_task() -> None:
    one, different = DOMAINS["operator"], 0
    for seed in range(300):
        task = one.sample(seed, "hard")
        different += one.subproblem(task, seed).answer != task.answer
    assert different > 200


def test_practice_keeps_the_operator_and_the_rule_of_the_task() -> None:
    for seed in range(100):
        task = DOMAINS["operator"].sample(seed, "hard")
        assert DOMAINS["operator"].subproblem(task, seed).question.split(":")[0] == task.question.split(":")[0]
        task = DOMAINS["induction"].sample(seed, "hard")
        assert _rule(DOMAINS["induction"].subproblem(task, seed).question) == _rule(task.question)


def test_sampling_is_a_pure_function_whose_values_are_pinned() -> None:
    assert sample_tasks(24, 7) == sample_tasks(24, 7) != sample_tasks(24, 8)
    assert [task.domain for task in sample_tasks(7, 7)] == [*NAMES, NAMES[0]]
    assert len({task.task_id for task in sample_tasks(200, 7)}) == 200
    assert DOMAINS["linear"].sample(0, "hard").question == PINNED["linear"]
    assert DOMAINS["nested"].sample(0, "hard").question == PINNED["nested"]


def test_suites_own_their_questions_and_nobody_else_gets_them() -> None:
    for one in DOMAINS.values():
        for split in ("easy", "hard"):
            for seed in range(200):
                assert in_suite_bucket(one.sample(SUITE_SEEDS + seed, split).question)
                for base in (0, TRAINING_SEEDS, CARD_SEEDS):
                    assert not in_suite_bucket(one.sample(base + seed, split).question)


def test_questions_are_short_printable_and_belong_to_one_domain() -> None:
    for task in [*sample_tasks(300, 1, split="easy"), *sample_tasks(300, 1, split="hard")]:
        assert len(task.question) <= 50 and len(task.solution) <= 64
        assert (task.question + task.solution).isascii() and task.question.isprintable()
        assert [name for name, one in DOMAINS.items() if one.parse(task.question)] == [task.domain]


@pytest.mark.parametrize(
    "text",
    ["", "hello", "3x+1=x+1 ", "(1+2", "1+2)", "1++2", "9*9*9", "max 3", "1>2 3>4 5>6 1>?", "((1+2))+3", "2x=3x"],
)
def test_text_of_no_domain_is_recognised_as_none(text: str) -> None:
    assert recognise(text) is None
    with pytest.raises(TaskError, match="is no question of domain"):
        DOMAINS["nested"].read(text)


def _steps(table: dict[str, str], chain: str) -> set[str]:
    """What a chain looks up, asked of the text."""
    if "F" in chain or "f" in chain:
        value, found = chain[-1], set()
        for _ in range(len(chain) - 1):
            found.add(value)
            for _ in range(3 if "F" in chain else 1):
                value = table[value]
        return found
    first, *steps = re.findall(r"[&@]?[0-6]", chain)
    found = set()
    for operator, other in steps:
        key = str(abs(int(first) - int(other)))
        found.add(key)
        first = table[key] if operator == "&" else table[table[key]]
    return found


@pytest.mark.parametrize("name", ["operator", "binary"])
def test_practice_is_on_the_path_if_it_takes_any_step_of_the_task(name: str) -> None:
    """A chain of practice that begins elsewhere and runs into the task's way teaches the task's own step."""
    source, seen = domain(name), {True: 0, False: 0}
    for task in sample_tasks(40, 3, name):
        table = {pair[0]: pair[1] for pair in task.question.split(":")[0].split()}
        chain = task.question.split(": ")[1]
        operator = next(letter for letter in chain if letter in "Ff&@")
        for text in (
            [f"{operator}{x}" for x in range(7)] + [f"{operator * 2}{x}" for x in range(7)]
            if name == "operator"
            else [f"{x}{operator}{y}{operator}{z}" for x in range(7) for y in range(0, 7, 2) for z in range(0, 7, 3)]
        ):
            wanted = not _steps(table, text).isdisjoint(_steps(table, chain))
            assert source.on_path(task, text) is wanted, (task.question, text)
            seen[wanted] += 1
    assert min(seen.values()) > 50
