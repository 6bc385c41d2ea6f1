"""What the HTTP server asks of the process that holds the learner, and what comes back: JSON over a pipe.

Rules: a message is one of these records and nothing else; whoever reads one validates it, so that neither side believes
the other's bytes. No log entry and no stored artifact is made of them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mass_gov.records.base import BigInteger, Count, Digest, Record, SubjectHandle, Uuid
from mass_gov.records.change import Scope
from mass_gov.records.events import Actor

Adaptation = Literal["mass", "none"]


class Solve(Record):
    """Answer a question, with an update or from the pointer's state.

    Attributes:
        task_id: asked again under the same name, the recorded change is found and served.
        unrecorded: where the ledger cannot be written and no update is asked for, answer all the same, with no event.
    """

    do: Literal["solve"] = "solve"
    actor: Actor
    question: str
    task_id: Annotated[str, Field(min_length=1, max_length=500)]
    scope: Scope = "instance"
    adaptation: Adaptation = "mass"
    seed: BigInteger | None = None
    subject: SubjectHandle | None = None
    unrecorded: bool = False


class Again(Record):
    """Serve what a recorded change gives now."""

    do: Literal["again"] = "again"
    actor: Actor
    change_id: Uuid


class Replay(Record):
    """Compute a recorded change or answer again, and record that it was done."""

    do: Literal["replay"] = "replay"
    actor: Actor
    target: Uuid
    start: Literal["delta", "samples", "scratch"]


Asked = Annotated[Solve | Again | Replay, Field(discriminator="do")]


class Given(Record):
    """An answer, and what stands behind it.

    Attributes:
        change_id: the change behind it; None of an answer with no update.
        response_id: of an answer with no update; None where a change stands behind it.
        text: what is served; None where the policy serves nothing.
        answer: what is read from the text as its answer; None where nothing is.
        served: whose answer it is.
        status, verdict: where the change stands, and how it was decided.
        recorded: whether the log has an event of this answer; false only where `unrecorded` asked for that.
        repeated: whether it is the recorded change of a task that was asked before.
        tokens, prompt_tokens: of the answer, and of the question as it was put; None where it was not put again.
        note: why nothing was learned, where learning was asked for.
    """

    change_id: Uuid | None
    response_id: Uuid | None
    text: str | None
    answer: str | None = None
    served: Literal["adapted", "parent", "base", "unadapted", "none"]
    state: Digest | None
    status: str | None
    verdict: str | None
    scope: Scope | None
    tokens: Count
    prompt_tokens: Count | None = None
    finished: bool
    recorded: bool = True
    repeated: bool = False
    note: str | None = None


class Replayed(Record):
    """The document that is said of a replay, as `mass-gov replay --json` prints it."""

    said: dict[str, Any]


class Order(Record):
    """To the process: the work with a number to name it by, or the number of work that nobody wants any more."""

    number: Count
    asked: Asked | None = None


class Fault(Record):
    """Why there is no result: the name of an error of `mass_gov.errors`, or of none of them."""

    kind: Annotated[str, Field(max_length=100)]
    message: Annotated[str, Field(max_length=4000)]


class Reply(Record):
    """From the process: what came of an order; `number` is None once, when it is ready, or cannot be."""

    number: Count | None
    given: Given | None = None
    replayed: Replayed | None = None
    fault: Fault | None = None
