"""What a state answered to a suite, remembered from one process to the next.

Rules: a file is named by everything that decides the answers (tenant, state, suite, how answers are decoded, numeric
environment), and is sealed for that name under the key of whose data the state was made from: the system's for the
frozen base, the subject's for a change's state, so that whoever is erased is erased here too. A file that does not
open, or holds another number of answers, is as good as none and is written anew. A state that the ledger does not hold
yet is not remembered.

Only `adapt` and its kin read this. What checks them computes again: replay asks the model, verify reads what was
recorded. A folder that cannot be written costs time and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mass_gov.errors import IntegrityError, KeyUnavailableError, NotRetainedError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.files import whole_file
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.sealing import Binding, seal, unseal
from mass_gov.records.settings import AnswerSpec

Answers = tuple[str | None, ...]
_ROLE, _COMMITMENT = "outcomes", 32  # bytes


@dataclass(frozen=True)
class OutcomeStore:
    """Sealed files in one folder.

    Attributes:
        owner: whose data a state was made from, as a handle; None for a state that nobody recorded.
        fingerprint: digest of the numeric environment.
    """

    folder: Path
    keys: KeyStore
    tenant: str
    fingerprint: str
    owner: Callable[[str], str | None]

    def read(self, state: str, suite: str, spec: AnswerSpec, count: int) -> Answers | None:
        """The answers of a state to `count` cases; None where they are not known, or no longer."""
        name, key = self._name(state, suite, spec), self._key(state)
        if key is None:
            return None
        try:
            raw = (self.folder / name).read_bytes()
            commitment, stored = raw[:_COMMITMENT].hex(), raw[_COMMITMENT:]
            answers = json.loads(unseal(stored, key, Binding(self.tenant, name, _ROLE), commitment))
        except (OSError, IntegrityError):
            return None
        return tuple(answers) if len(answers) == count else None

    def write(self, state: str, suite: str, spec: AnswerSpec, answers: Answers) -> None:
        """Remember the answers of a recorded state."""
        name, key = self._name(state, suite, spec), self._key(state)
        if key is None:
            return
        sealed = seal(canonical_bytes(list(answers)), key, Binding(self.tenant, name, _ROLE))
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with whole_file(self.folder / name) as stream:
                stream.write(bytes.fromhex(sealed.commitment) + sealed.stored)

    def _name(self, state: str, suite: str, spec: AnswerSpec) -> str:
        named = {
            "answer": spec.document(),
            "fingerprint": self.fingerprint,
            "state": state,
            "suite": suite,
            "tenant": self.tenant,
        }
        return sha256_hex(canonical_bytes(named))

    def _key(self, state: str) -> bytes | None:
        handle = self.owner(state)
        if handle is None:
            return None
        try:
            return self.keys.subject_key(handle)
        except (KeyUnavailableError, NotRetainedError):
            return None
