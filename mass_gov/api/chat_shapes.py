"""What `POST /v1/chat/completions` takes and gives, in the shapes that OpenAI's clients know.

Rules: one problem is asked, in one user message at the end; what system messages say stands before it in the task's
text, and nothing else is folded into it. Decoding is greedy and its length is the policy's matter, so a parameter that
would change that is named in `mass_gov.ignored`; one that asks for something else than an answer in text is refused.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mass_gov.records.asked import Adaptation, Given
from mass_gov.records.base import SubjectHandle
from mass_gov.records.change import Scope

MOST_MESSAGES = 32
REFUSED = ("tools", "tool_choice", "functions", "function_call", "modalities", "audio", "logprobs", "prediction")
"""Parameters that ask for something else than an answer in text."""
_KNOWN = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "presence_penalty")
"""Named where they are ignored; whatever else is sent is named too."""


class TextPart(BaseModel):
    """A piece of a message."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message: of the system (or developer), or the user's."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=MOST_MESSAGES)]

    @property
    def text(self) -> str:
        """What it says."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Wanted(BaseModel):
    """What mass-gov is asked besides: give it as `extra_body={"mass_gov": {...}}`."""

    model_config = ConfigDict(extra="forbid")

    scope: Scope = Field("instance", description="Learn for this answer alone, or to move the deployment's pointer.")
    adaptation: Adaptation = Field("mass", description="`none` answers from the pointer's state and learns nothing.")
    subject: SubjectHandle | None = Field(None, description="Whose data this is: `s-` and 32 hex digits.")


class ChatRequest(BaseModel):
    """A problem to answer."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "model": "default",
                    "messages": [{"role": "user", "content": "03 14 21 32 45 56 60: FFF5"}],
                    "mass_gov": {"scope": "instance", "adaptation": "mass"},
                }
            ]
        },
    )

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(description="See `GET /v1/models`.")
    messages: Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]
    stream: bool | None = False
    n: Literal[1] | None = 1
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(None, description="Seed of the practice problems.")
    mass_gov: Wanted | None = None

    @property
    def question(self) -> str:
        """The task: what the system messages say, then what the user asks.

        Raises:
            RequestValidationError: another order of messages than that.
        """
        *before, last = self.messages
        if last.role != "user" or any(message.role == "user" for message in before):
            raise _misfit("messages", "one user message at the end, and before it system messages alone")
        return "\n\n".join(message.text for message in self.messages)

    @property
    def ignored(self) -> list[str]:
        """Parameters that were sent and change nothing.

        Raises:
            RequestValidationError: one that asks for something else than an answer in text.
        """
        sent = {name: value for name, value in (self.model_extra or {}).items() if value not in (None, [], {}, False)}
        for name in REFUSED:
            if name in sent:
                raise _misfit(name, "this server answers in text: leave it out")
        if sent.get("response_format", {"type": "text"}) != {"type": "text"}:
            raise _misfit("response_format", "this server answers in text: leave it out")
        return sorted(name if name in _KNOWN else name[:60] for name in sent)[:MOST_MESSAGES]


def _misfit(name: str, what: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", name), "msg": what, "type": "value_error"}])


class Governed(BaseModel):
    """What stands behind an answer: in every answer, as `mass_gov`."""

    change_id: str | None = Field(description="The change behind it; null of an answer without an update.")
    response_id: str | None = Field(description="Of an answer without an update: the event that says it was given.")
    answer: str | None = Field(description="What the answer comes down to, read from its text; null where nothing is.")
    served: Literal["adapted", "parent", "base", "unadapted", "none"] = Field(description="Whose answer this is.")
    status: str | None = Field(description="Where the change stands: applied, held, rejected and so on.")
    verdict: str | None = Field(description="How it was decided: apply, hold or reject.")
    scope: Scope | None
    state: str | None = Field(description="Digest of the weights that answered.")
    recorded: bool = Field(description="False only where the ledger could not be written and the operator allows it.")
    repeated: bool = Field(description="Whether this is the recorded answer to an Idempotency-Key that came before.")
    note: str | None = Field(description="Why nothing was learned, where learning was asked for.")
    status_url: str | None = Field(description="Where to ask again what this change serves.")
    ignored: list[str] = Field(description="Parameters that were sent and change nothing.")

    @classmethod
    def of(cls, given: Given, ignored: list[str]) -> Governed:
        """What stands behind what was given."""
        shared = given.model_dump(include=set(cls.model_fields) & set(Given.model_fields))
        return cls(**shared, status_url=status_url(given), ignored=ignored)


def status_url(given: Given) -> str | None:
    """Where the answer of a change is asked for again."""
    return f"/v1/chat/completions/{given.change_id}" if given.change_id is not None else None


class Said(BaseModel):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(BaseModel):
    """The one choice."""

    index: Literal[0] = 0
    message: Said
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class Usage(BaseModel):
    """Tokens of the question as it was put and of the answer; what practising took is the change's cost."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """An answer. While a change waits for a person and the policy serves nothing, `choices` is empty."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None
    mass_gov: Governed


def completion_of(given: Given, model: str, ignored: list[str]) -> Completion:
    """The document of an answer."""
    choices = []
    if given.text is not None:
        choices = [Choice(message=Said(content=given.text), finish_reason="stop" if given.finished else "length")]
    usage = None
    if given.prompt_tokens is not None:
        total = given.prompt_tokens + given.tokens
        usage = Usage(prompt_tokens=given.prompt_tokens, completion_tokens=given.tokens, total_tokens=total)
    return Completion(
        id=f"chatcmpl-{given.change_id or given.response_id or 'unrecorded'}",
        created=int(time.time()),
        model=model,
        choices=choices,
        usage=usage,
        mass_gov=Governed.of(given, ignored),
    )


def chunks_of(completion: Completion) -> list[dict[str, Any]]:
    """The same in pieces, as a stream sends them; what stands behind it comes with the last one."""
    head = {
        "id": completion.id,
        "object": "chat.completion.chunk",
        "created": completion.created,
        "model": completion.model,
    }
    governed = completion.mass_gov.model_dump()
    if not completion.choices:
        return [{**head, "choices": [], "mass_gov": governed}]
    (choice,) = completion.choices
    pieces: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    pieces += [{"content": piece} for piece in _pieces(choice.message.content)]
    chunks = [{**head, "choices": [{"index": 0, "delta": piece, "finish_reason": None}]} for piece in pieces]
    last = {"index": 0, "delta": {}, "finish_reason": choice.finish_reason}
    return [*chunks, {**head, "choices": [last], "mass_gov": governed}]


def _pieces(text: str, size: int = 24) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]
