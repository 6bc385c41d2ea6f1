"""Reading whose data there is: subjects, what is sealed for each, and what was made from it.

Rules: answers come from projections, and what a change says from its signed entry, as in `history`. A subject is a
random handle; this module does not know who anybody is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import func, literal, select, union_all
from sqlalchemy.engine import RowMapping

from mass_gov.errors import IntegrityError, NotFoundError
from mass_gov.ledger import subject_rules
from mass_gov.ledger.control_reader import ControlReader
from mass_gov.ledger.schema import changes, responses, subjects
from mass_gov.ledger.views import ChangeView
from mass_gov.records.events import SubjectErased

Standing = Literal["held", "erased"]


@dataclass(frozen=True, slots=True)
class SubjectView:
    """One subject: how much there is of it, and where it stands.

    Attributes:
        changes: how many changes were made from its data.
        answers: how many answers with no update behind them.
        first_index, last_index: log indices of the first and the last of both.
        held_index: index of the legal hold in force; None when there is none.
        erased_index: index of the event that says that it was erased.
    """

    subject: str
    changes: int
    answers: int
    first_index: int
    last_index: int
    held_index: int | None
    erased_index: int | None


class SubjectReader(ControlReader):
    """The part of a ledger that answers questions about subjects. Made by `Ledger.open`."""

    def subjects(
        self, *, limit: int = 50, standing: Standing | None = None, before: int | None = None
    ) -> list[SubjectView]:
        """Subjects by their last event, newest first; `standing` leaves only those that are held or erased.

        Arguments:
            before: only those whose last event has a lower log index.
        """
        query = select(_LISTED).order_by(_LISTED.c.last_index.desc()).limit(limit)
        if standing is not None:
            query = query.where(_LISTED.c[f"{standing}_index"].is_not(None))
        if before is not None:
            query = query.where(_LISTED.c.last_index < before)
        with self._database.read() as connection:
            return [_view(row) for row in connection.execute(query).mappings()]

    def subject(self, handle: str) -> SubjectView:
        """One subject.

        Raises:
            NotFoundError: nothing was ever recorded for it.
        """
        with self._database.read() as connection:
            row = connection.execute(select(_LISTED).where(_LISTED.c.subject == handle)).mappings().first()
        if row is None:
            raise NotFoundError(
                f"Nothing is recorded for the subject {handle[:60]!r}. `mass-gov subjects list` shows the handles, and "
                "`mass-gov changes show` that of a change."
            )
        return _view(row)

    def lineage(self, handle: str) -> list[tuple[ChangeView, str]]:
        """Every change made from a subject's data and every later one that stands on one, in the order of the log.

        Each with the id of the subject's own change that it goes back to: its own id for those.
        """
        with self._database.read() as connection:
            found = [(str(row["change_id"]), root) for row, root in subject_rules.lineage(connection, handle)]
        return [(self.change(change_id), root) for change_id, root in found]

    def sealed_for(self, handle: str) -> int:
        """How many artifacts are sealed under a subject's key."""
        made, answered = changes.c.index, responses.c.index
        query = union_all(
            select(made).where(changes.c.subject == handle), select(answered).where(responses.c.subject == handle)
        )
        with self._database.read() as connection:
            indices = [int(index) for index in connection.execute(query).scalars()]
        refs = (ref for index in indices for ref in self.entry(index).predicate.artifacts)
        return sum(ref.subject == handle for ref in refs)

    def erased_subjects(self) -> dict[str, int]:
        """Every erased subject, and the index of the event that says so.

        Raises:
            IntegrityError: as `insist_erased`.
        """
        with self._database.read() as connection:
            found = subject_rules.erased_handles(connection)
        for handle, index in found.items():
            self.insist_erased(handle, index)
        return found

    def insist_erased(self, handle: str, index: int) -> None:
        """Ask the signed log whether a subject was erased by the event at `index`: a key is destroyed for good.

        Raises:
            IntegrityError: that event does not say so, whatever the projections say.
        """
        for entry in self.entries(index, index + 1):
            body = entry.predicate.body
            if isinstance(body, SubjectErased) and body.subject == handle:
                return
        raise IntegrityError(
            f"The ledger says that event {index} erased the subject {handle}, and that event does not say so. Its key "
            "stays. Somebody changed the database: run `mass-gov verify`, then `mass-gov log rebuild`."
        )


def _view(row: RowMapping) -> SubjectView:
    # A sum of integers comes back as a decimal number from PostgreSQL.
    counts = {name: int(row[name]) for name in ("changes", "answers", "first_index", "last_index")}
    return SubjectView(subject=row["subject"], held_index=row["held_index"], erased_index=row["erased_index"], **counts)


_EACH = union_all(
    select(changes.c.subject.label("subject"), changes.c.index.label("at"), literal(1).label("made")),
    select(responses.c.subject, responses.c.index, literal(0)).where(responses.c.subject.is_not(None)),
).subquery()
_COUNTED = (
    select(
        _EACH.c.subject,
        func.sum(_EACH.c.made).label("changes"),
        (func.count() - func.sum(_EACH.c.made)).label("answers"),
        func.min(_EACH.c.at).label("first_index"),
        func.max(_EACH.c.at).label("last_index"),
    )
    .group_by(_EACH.c.subject)
    .subquery()
)
_LISTED = (
    select(_COUNTED, subjects.c.held_index, subjects.c.erased_index)
    .select_from(_COUNTED.outerjoin(subjects, subjects.c.subject == _COUNTED.c.subject))
    .subquery()
)
