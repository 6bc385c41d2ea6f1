"""How a problem is put to a model, and how what it writes is read back.

Rules: a prompt is made by replacing `{question}`, never by `str.format` (a question may hold braces). Reading is
strict: a sample either parses into question, solution and answer, or gets a reason code; nothing is repaired.

Does not know tokens, models, or whether an answer is right.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import rfc8785

from mass_gov.errors import ModelError

FILE_NAME = "prompt_template.json"
_SLOT = "{question}"


@dataclass(frozen=True)
class PromptTemplate:
    """The texts around a question.

    solve: what the solver continues with "{working}{marker}{answer}"; practise: what the generator continues with
    "{practice question}{separator}{working}{marker}{answer}"; stop: strings that end a generation besides the end
    token; chat: render the prompts as one user message through the tokenizer's chat template; scratch: where it is
    not empty, the generator may write "{practice question}{scratch}{how it gets there}{separator}{working}...": what
    stands between is how the model got to the solution, and is dropped from the pair that is trained on.
    """

    solve: str
    practise: str
    separator: str
    marker: str
    stop: tuple[str, ...] = ()
    chat: bool = False
    scratch: str = ""

    def __post_init__(self) -> None:
        for name in ("solve", "practise"):
            if _SLOT not in getattr(self, name):
                raise ModelError(f"the prompt template's {name!r} lacks {_SLOT}. Add it to {FILE_NAME}.")
        if not self.separator or not self.marker or not all(self.stop):
            raise ModelError(f"the prompt template has an empty separator, marker or stop. Mend {FILE_NAME}.")
        if self.scratch and (self.scratch in self.separator or self.separator in self.scratch):
            raise ModelError(f"the prompt template's scratch and separator contain one another. Mend {FILE_NAME}.")

    def solve_prompt(self, question: str) -> str:
        """The text that asks for a solution of `question`."""
        return self.solve.replace(_SLOT, question)

    def practise_prompt(self, question: str) -> str:
        """The text that asks for a practice problem, with its solution, that helps with `question`."""
        return self.practise.replace(_SLOT, question)

    def to_json(self) -> bytes:
        """RFC 8785 canonical JSON; what a prompt template digest is taken over.

        Without scratch there is no such key, so that templates from before there was one keep their digest.
        """
        values = {**asdict(self), "stop": list(self.stop)}
        return rfc8785.dumps(values if self.scratch else {k: v for k, v in values.items() if k != "scratch"})


GENERIC_PLAIN = PromptTemplate(
    solve="Problem: {question}\nSolution:",
    practise=(
        "Problem: {question}\n"
        "A smaller problem of the same kind, with its solution, ending in #### and the answer.\n"
        "Problem:"
    ),
    separator="\nSolution:",
    marker="####",
    stop=("\nProblem:",),
)
GENERIC_CHAT = PromptTemplate(
    solve=("Solve this problem step by step. End with a line that holds #### and then the answer alone.\n\n{question}"),
    practise=(
        "Here is a problem:\n\n{question}\n\nDo not solve it. Write one smaller problem of the same kind that would "
        "be good practice for it. Then write a line that begins with 'Solution:', the solution step by step, and a "
        "last line that holds #### and then the answer alone. Write nothing else."
    ),
    separator="\nSolution:",
    marker="####",
    chat=True,
)


def read_template(folder: Path, *, chat: bool) -> PromptTemplate:
    """The template in a model folder, or the generic one for chat or plain models if the folder has none.

    Raises ModelError for a file that is not exactly the known keys with the known types.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return GENERIC_CHAT if chat else GENERIC_PLAIN
    try:
        return _template_from(json.loads(path.read_bytes()))
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is not a prompt template: {error}. Mend or remove it.") from error


def _template_from(raw: Any) -> PromptTemplate:
    if not isinstance(raw, dict):
        raise TypeError("it is not a JSON object")
    unknown = set(raw) - {field.name for field in fields(PromptTemplate)}
    missing = {"solve", "practise", "separator", "marker"} - set(raw)
    if unknown or missing:
        raise ValueError(f"unknown keys {sorted(unknown)}, missing keys {sorted(missing)}")
    stop, chat, scratch = raw.get("stop", []), raw.get("chat", False), raw.get("scratch", "")
    texts = (raw["solve"], raw["practise"], raw["separator"], raw["marker"])
    if not isinstance(stop, list) or not all(isinstance(text, str) for text in [*texts, *stop, scratch]):
        raise TypeError("its values must be strings, and 'stop' a list of strings")
    if not isinstance(chat, bool):
        raise TypeError("'chat' must be true or false")
    return PromptTemplate(*texts, tuple(stop), chat, scratch)


@dataclass(frozen=True)
class ParsedSample:
    """A practice problem as the model wrote it; `answer` is what stands after the last marker of `solution`.

    `scratch` is how the model got there, None where it wrote none. It is no part of the pair that is trained on.
    """

    question: str
    solution: str
    answer: str
    scratch: str | None = None


@dataclass(frozen=True)
class Unparseable:
    """Why a sample does not parse.

    unfinished, no-separator, second-separator, no-question, no-marker, no-answer; where the template has a scratch:
    second-scratch, empty-scratch, scratch-after-separator.
    """

    reason: str


def parse_sample(text: str, template: PromptTemplate, *, finished: bool = True) -> ParsedSample | Unparseable:
    """Read "{question}[{scratch}{scratch working}]{separator}{working}{marker}{answer}".

    Solution and scratch working are kept as written, spaces and all.
    """
    if not finished:
        return Unparseable("unfinished")
    head, separator, solution = text.partition(template.separator)
    question, scratch = _split_scratch(head, template)
    answer = parse_answer(solution, template)
    wrong = {
        "no-separator": not separator,
        "second-separator": template.separator in solution,
        **_wrong_scratch(scratch, solution, template),
        "no-question": not question.strip(),
        "no-marker": template.marker not in solution,
        "no-answer": answer is None,
    }
    reason = next((reason for reason, holds in wrong.items() if holds), None)
    if reason is not None or answer is None:
        return Unparseable(reason or "no-answer")
    return ParsedSample(question.strip(), solution, answer, scratch)


def _split_scratch(head: str, template: PromptTemplate) -> tuple[str, str | None]:
    """What stands before the separator, as question and scratch working; None where there is none."""
    if not template.scratch or template.scratch not in head:
        return head, None
    question, _, scratch = head.partition(template.scratch)
    return question, scratch


def _wrong_scratch(scratch: str | None, solution: str, template: PromptTemplate) -> dict[str, bool]:
    if not template.scratch:
        return {}
    return {
        "scratch-after-separator": template.scratch in solution,
        "second-scratch": scratch is not None and template.scratch in scratch,
        "empty-scratch": scratch is not None and not scratch.strip(),
    }


def up_to_solution(text: str, question: str, template: PromptTemplate) -> str:
    """What was written up to where the model works: the question, and the mark after which it works on it.

    That mark is the scratch where the sample has one, else the separator: whoever solves it again works as it did.
    """
    head, _, _ = text.partition(template.separator)
    scratch = bool(template.scratch) and template.scratch in head
    return question + (template.scratch if scratch else template.separator)


def parse_answer(text: str, template: PromptTemplate) -> str | None:
    """What stands after the last marker, stripped; None where there is no marker or nothing after it."""
    _, marker, answer = text.rpartition(template.marker)
    return answer.strip() or None if marker else None
