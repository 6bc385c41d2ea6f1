"""Whose contents can be opened, and whose were erased: a part of step (9) of `mass_gov.flows.audit`.

Rules: an erasure that the log and the key store both tell of is lawful, and is named as not checked with the event that
recorded it. Where only a mark in the key store tells of it, it is a warning: whoever holds the keys can set one to keep
contents from being looked at. Where the log tells of it and the key is here all the same, it is a fault: a back-up of
the keys brought it back. A key that is simply gone is a fault unless the log says that its subject was erased.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mass_gov.errors import KeyUnavailableError, MassGovError, NotRetainedError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.flows.audit_report import Findings
from mass_gov.ledger import Entry
from mass_gov.records.events import SubjectErased


@dataclass(frozen=True, slots=True)
class _Gone:
    """An artifact whose key is missing with no mark that says why."""

    where: str
    index: int
    why: str


@dataclass
class SubjectCheck:
    """Hands out subjects' keys while events pass by, and at the end says what became of those that it could not."""

    keys: KeyStore
    findings: Findings
    _recorded: dict[str, int] = field(default_factory=dict)
    """Subjects that the log says were erased, with the event's index."""
    _marked: dict[str, int] = field(default_factory=dict)
    """Artifacts that were not opened, by the subject that the key store marks as erased."""
    _gone: dict[str, list[_Gone]] = field(default_factory=dict)

    def look(self, entry: Entry) -> None:
        """Note that the log says of a subject that it was erased."""
        if isinstance(entry.predicate.body, SubjectErased):
            self._recorded[entry.predicate.body.subject] = entry.index

    def key_of(self, handle: str, where: str, index: int) -> bytes | None:
        """The key that seals an artifact; None, and noted, where there is none. Secret."""
        try:
            return self.keys.subject_key(handle)
        except NotRetainedError:
            self.findings.count("erased")
            self._marked[handle] = self._marked.get(handle, 0) + 1
        except KeyUnavailableError as error:
            if self.keys.holds_key(handle):
                self.findings.wrong(9, where, str(error), index)
            else:
                self._gone.setdefault(handle, []).append(_Gone(where, index, str(error)))
        except MassGovError as error:
            self.findings.wrong(9, where, str(error), index)
        return None

    def end(self) -> None:
        """Hold the log's erasures against the key store's, once every event has passed."""
        for handle, event in self._recorded.items():
            gone = self._gone.pop(handle, [])
            for _ in gone:
                self.findings.count("erased")
            count = self._marked.pop(handle, 0) + len(gone)
            if self.keys.holds_key(handle):
                what = (
                    f"event {event} says that {handle} was erased, and its key is here: a back-up of the keys was "
                    f"restored. `mass-gov subjects erase {handle}` destroys it again"
                )
                self.findings.wrong(9, f"key store, subject {handle}", what, event)
                continue
            if not self.keys.is_destroyed(handle):
                self.findings.warn(
                    f"Subject {handle} was erased by event {event}, and the key store has no mark of it: another key "
                    "store was restored. The next command that writes sets the mark again."
                )
            self.findings.unknown(f"{count} artifacts of {handle}: erased by event {event}")
        for handle, count in self._marked.items():
            self.findings.unknown(f"{count} artifacts of {handle}: erased")
            self.findings.warn(
                f"Subject {handle} is marked as erased, and no event in the log says so: {count} artifacts were not "
                f"opened. Ask whoever keeps the keys; if it was meant, `mass-gov subjects erase {handle}` records it."
            )
        for lost in self._gone.values():
            for one in lost:
                self.findings.wrong(9, one.where, one.why, one.index)
