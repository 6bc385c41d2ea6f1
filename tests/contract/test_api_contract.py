"""The API's pages and documents are the code."""

from __future__ import annotations

from mass_gov import errors
from mass_gov.api.problems import BY_NAME, CATALOGUE, problem_of
from tests.contract import problems_page


def test_the_catalogue_of_problems_is_the_code() -> None:
    assert problems_page.PAGE.read_text("utf-8") == problems_page.render(), (
        "run `python -m tests.contract.problems_page`"
    )


def test_no_problem_has_two_entries() -> None:
    assert len(BY_NAME) == len(CATALOGUE)


def test_every_error_of_the_tree_has_a_problem() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.MassGovError)]
    told = {kind.__name__: problem_of(kind("x")).kind.name for kind in kinds if kind is not errors.MassGovError}
    assert "defect" not in told.values()
    assert (told["UnprovenError"], told["StaleChangeError"], told["NotFoundError"]) == (
        "unauthenticated",
        "stale",
        "not-found",
    )
