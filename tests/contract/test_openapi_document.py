"""The OpenAPI document says of every operation what it is for, what it takes and what it gives."""

from __future__ import annotations

from typing import Any

import pytest

from mass_gov.api.openapi import BODIES, LINKS, PARAMETERS
from tests.contract import http_page
from tests.fakes.api_world import document_without_ledger

DOCUMENT = document_without_ledger()
OPERATIONS: dict[str, dict[str, Any]] = {
    operation["operationId"]: operation for methods in DOCUMENT["paths"].values() for operation in methods.values()
}
BINARY = {"application/zip", "application/x-ndjson", "text/csv", "text/html", "text/markdown"}


def done(operation: dict[str, Any]) -> dict[str, Any]:
    """The answer of success."""
    return next(answer for status, answer in operation["responses"].items() if status.startswith("2"))


def test_the_page_of_the_api_is_the_document() -> None:
    assert http_page.PAGE.read_text("utf-8") == http_page.render(), "run `python -m tests.contract.http_page`"


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_is_described_with_examples_and_shapes(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["description"].strip().endswith(".")
    for parameter in operation.get("parameters", []):
        assert parameter["description"], parameter["name"]
    if "requestBody" in operation:
        body = operation["requestBody"]["content"]["application/json"]
        shape = DOCUMENT["components"]["schemas"][body["schema"]["$ref"].rpartition("/")[2]]
        assert "example" in body or shape["examples"]
    for kind, content in done(operation)["content"].items():
        assert kind in BINARY or "$ref" in content["schema"], "an answer in JSON has a shape with a name"


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_problem_of_an_operation_is_a_problem_document(name: str) -> None:
    problems = {status: one for status, one in OPERATIONS[name]["responses"].items() if not status.startswith("2")}
    assert {"400", "401", "403", "404", "408", "413", "422", "429", "500", "503"} <= set(problems)
    for one in problems.values():
        assert set(one["content"]) == {"application/problem+json"} and "`" in one["description"]


def test_every_link_leads_to_an_operation_that_takes_what_it_names() -> None:
    for start, links in LINKS.items():
        assert len(done(OPERATIONS[start])["links"]) == len(links)
        for to, parameters in links.items():
            assert set(parameters) <= {one["name"] for one in OPERATIONS[to]["parameters"]}, (start, to)


def test_nothing_is_said_of_what_is_not_there() -> None:
    taken = {one["name"] for operation in OPERATIONS.values() for one in operation.get("parameters", [])}
    assert set(BODIES) <= set(OPERATIONS) and set(PARAMETERS) == taken
