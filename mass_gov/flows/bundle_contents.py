"""The artifacts of a bundle: sealed bytes against the leaf, and what is shown against the sealed bytes.

Steps (7) and (9) of `mass_gov.flows.bundle_verify`. What ties plain text to the leaf: the leaf names the SHA-256 of the
sealed bytes and a commitment to their data key. The bundle shows that key; it has the commitment, it opens the sealed
bytes at exactly this tenant, change, role and index, and what comes out is what is shown. Nobody can show another text
for the same leaf, not even whoever sealed it.

Rules: every member is called for by an artifact of an event in the bundle, or was needed to open one; what is left over
is a fault. Where nothing is shown, a marker says why, and the report says that it was not looked at. That something was
erased is believed only where an event says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mass_gov.errors import IntegrityError
from mass_gov.evidence.bundle_members import CLOSED, ERASED, artifact_stem, plain_name, reference_name
from mass_gov.evidence.canonical import sha256_hex
from mass_gov.evidence.keyring import KeyRing
from mass_gov.evidence.sealing import open_disclosed
from mass_gov.flows.audit_contents import Contents
from mass_gov.flows.audit_report import Findings
from mass_gov.flows.bundle_parts import Parts
from mass_gov.ledger import Entry
from mass_gov.ledger.writing import binding_of
from mass_gov.records.artifacts import ArtifactRef, ArtifactRole
from mass_gov.records.events import SubjectErased

_KEY = re.compile(rb"[0-9a-f]{64}\n")


class BundleContents(Contents):
    """Opens what a bundle shows, and compares it with the leaf by the same lines as a ledger's audit."""

    def __init__(self, parts: Parts, ring: KeyRing, findings: Findings) -> None:
        super().__init__(None, ring, findings)
        self._parts = parts
        self._used: set[str] = set()
        self._digests: set[str] = set()
        self._unread: dict[tuple[str, str], int] = {}
        """Artifacts that are not shown, by why and by subject."""

    def look(self, entry: Entry, change_id: str | None) -> None:
        """(7) Every artifact that an event names is here, sealed as the leaf says; (9) what is shown agrees with it."""
        lawful = self.roles(entry, change_id)
        opened: dict[ArtifactRole, bytes] = {}
        for ref in entry.predicate.artifacts:
            self.findings.checked(7)
            self.findings.count("artifacts")
            where = f"event {entry.index}, artifact {ref.role}[{ref.index}]"
            with self.findings.guard(7, where, entry.index, change_id):
                content = self._open(entry, ref)
                if content is not None:
                    opened[ref.role] = content
                    self.findings.checked(9)
        if lawful:  # else it is not known which of two is meant
            self.compare(entry, change_id, opened)

    def end(self, entries: Iterable[Entry]) -> None:
        """(1) Nothing is left over; (7) say what is not shown, and whether an event says that it was erased."""
        for name in sorted(self._parts.contents - self._used):
            # A reference is called for when an artifact is opened, which may be what failed.
            self.findings.wrong(7 if name.startswith("references/") else 1, f"member {name}", "no event calls for it")
        recorded = {e.predicate.body.subject for e in entries if isinstance(e.predicate.body, SubjectErased)}
        for (why, subject), count in sorted(self._unread.items()):
            if why == "erased" and subject in recorded:
                self.findings.unknown(f"{count} artifacts of {subject}: erased, as an event in the bundle says")
            elif why == "erased":
                self.findings.unknown(f"{count} artifacts of {subject}: said to be erased")
                self.findings.warn(f"{count} artifacts are said to be erased, and no event in the bundle says so.")
            else:
                self.findings.unknown(f"{count} artifacts of {subject}: left sealed by whoever exported the bundle")

    def _open(self, entry: Entry, ref: ArtifactRef) -> bytes | None:
        """(7) Digest, size, commitment, binding, and that what is shown is what is sealed; None where nothing is."""
        stem = artifact_stem(entry.index, ref.role)
        plain = plain_name(entry.index, ref.role, self._parts.change_index)
        self._used |= {plain, *(f"{stem}.{kind}" for kind in ("key", "erased", "closed"))}
        stored = self._take(f"{stem}.sealed")
        if stored is None or sha256_hex(stored) != ref.digest or len(stored) != ref.size:
            raise IntegrityError("Its sealed bytes are not those that the leaf names. Get the genuine ones.")
        if ref.digest in self._digests:
            raise IntegrityError("Another artifact of the bundle is the same one. Get the genuine ones.")
        self._digests.add(ref.digest)
        markers = {"erased": (f"{stem}.erased", ERASED), "closed": (f"{stem}.closed", CLOSED)}
        found = [why for why, (name, _) in markers.items() if name in self._parts.members]
        shown = [name for name in (f"{stem}.key", plain) if name in self._parts.members]
        if found:
            name, text = markers[found[0]]
            if len(found) > 1 or shown or self._take(name) != text:
                raise IntegrityError("It is shown and said to be sealed, or its marker says something else.")
            self.findings.count(found[0])
            self._unread[found[0], ref.subject] = self._unread.get((found[0], ref.subject), 0) + 1
            return None
        key, content = self._take(f"{stem}.key"), self._take(plain)
        if key is None or content is None or not _KEY.fullmatch(key):
            raise IntegrityError("The bundle shows neither its content and key, nor says why not. Export it again.")
        opened = open_disclosed(
            stored,
            bytes.fromhex(key[:-1].decode("ascii")),
            binding_of(entry.predicate, ref),
            ref.commitment,
            reference=self._reference,
        )
        if opened != content:
            raise IntegrityError("What is shown is not what was sealed. Get the genuine one.")
        return opened  # the one buffer that everything after this looks at

    def _reference(self, digest: str) -> bytes:
        content = self._take(reference_name(digest))
        if content is None:
            raise ValueError("what it was compressed against is not in the bundle")
        return content

    def _take(self, name: str) -> bytes | None:
        """A member, now called for; None where there is none."""
        self._used.add(name)
        return self._parts.members.get(name)
