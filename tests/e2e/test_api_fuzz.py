"""Schemathesis over the whole OpenAPI document, as an admin: no 5xx, and no answer that the document does not describe.

A few examples of each operation here; `make fuzz` runs 500 (FUZZ_EXAMPLES).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import FlakyStrategyDefinition, Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.fakes.api_world import ApiWorld, api_world, operations

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "4"))
WALKS = 40
TOGETHER = 10
"""Walks that share a seed."""
AS_SENT = [positive_data_acceptance, negative_data_rejection]
"""Of inputs as they were generated, which walks change; the other test has them."""
NEEDED = ("index", "from", "cursor")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiWorld]:
    with api_world(tmp_path_factory.mktemp("fuzz")) as made:
        made.world.record("held", step_norm=0.7)
        made.world.record("applied")
        yield made


@pytest.fixture(scope="module")
def document(fuzzed: ApiWorld) -> Any:
    return schemathesis.openapi.from_asgi("/v1/openapi.json", fuzzed.app)


def _shows(value: Any) -> bool:
    """Whether a query's value is on the wire what it is: an empty one leaves nothing, a list of one looks single."""
    if isinstance(value, list):
        return len(value) > 1
    return value is not None and value != {}


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), operations())
def test_no_input_makes_an_answer_that_is_not_described(
    fuzzed: ApiWorld, document: Any, method: str, path: str, mode: GenerationMode
) -> None:
    """Inputs that fit the document, and inputs that do not, where an operation takes any."""
    operation = fuzzed.app.openapi()["paths"][path][method.lower()]
    # What a schema cannot say: which cursors were handed out, and what is a reason that people can read.
    beyond = "requestBody" in operation or "cursor" in {one["name"] for one in operation.get("parameters", [])}
    excluded = [positive_data_acceptance] if beyond else []
    token = {"Authorization": f"Bearer {fuzzed.tokens['carl']}"}

    @given(case=document[path][method.lower()].as_strategy(mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=EXAMPLES < 50,
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        assume(all(_shows(value) for value in (case.query or {}).values()))
        case.call_and_validate(headers=token, excluded_checks=excluded)

    try:
        check()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE and "{" not in path, "there is nothing in it that could be wrong"


@pytest.mark.slow
def test_what_an_answer_leads_to_is_described_too(
    fuzzed: ApiWorld, document: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Walks along the links: from lists to their things, from what was looked at to a decision about it."""
    token, reached = {"Authorization": f"Bearer {fuzzed.tokens['carl']}"}, Counter[str]()
    wrong: list[BaseException] = []

    class Walk(document.as_state_machine()):  # type: ignore[misc]  # a class that is made from the document
        begun = 0

        def setup(self) -> None:
            Walk.begun += 1
            super().setup()

        def before_call(self, case: Any) -> None:
            if case.method == "GET" and "{" not in case.path:  # a list with everything in it leads somewhere
                case.query = {name: value for name, value in (case.query or {}).items() if name in NEEDED}

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": token}

        def validate_response(self, response: Any, case: Any, *_: Any, **__: Any) -> None:
            if response.status_code < 400 and "{" in case.path:
                reached[case.operation.definition.raw["operationId"]] += 1
            try:
                case.validate_response(response, transport_kwargs={"headers": token}, excluded_checks=AS_SENT)
            except BaseException as error:
                wrong.append(error)
                raise

    walks = max(WALKS, EXAMPLES)
    for first in range(0, walks, TOGETHER):
        monkeypatch.setattr("hypothesis.core.global_force_seed", first)
        # What a walk finds depends on what those before it left behind; where Hypothesis comes upon a beginning that
        # once went on otherwise, it gives up these walks. What any answer got wrong is kept in `wrong`.
        with suppress(FlakyStrategyDefinition):
            Walk.run(
                settings=settings(
                    max_examples=TOGETHER,
                    stateful_step_count=8,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
            )
    assert not wrong, wrong[0]
    print(f"{Walk.begun} walks of {walks} reached", dict(reached))
    assert Walk.begun >= walks // 2, "most walks were given up: the seeds lead the same way"
    enough = 5 if EXAMPLES >= 50 else 1  # how many of the few walks of a small run arrive is a matter of chance
    assert len(reached) >= enough, "links lead from lists to things: an id that nobody handed out is a 404"
