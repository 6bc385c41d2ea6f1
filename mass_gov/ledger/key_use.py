"""Which private keys sign an event and a head: the rules of `evidence.keyring` from the writer's side.

Rules: under the write lock the log is asked which keys are in use, unless it ends where this process left it; so a
process that still has an older one in memory takes the new one from the key store or refuses, and never signs with a
key that was handed over from. A rotation is the last event of its turn, and its turn the last of its group, because
another key signs what follows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mass_gov.errors import InputError
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.signing import Signer
from mass_gov.evidence.signing_keys import PURPOSES
from mass_gov.records.events import Body, KeyRotated


def bring_signers_up(in_use: Mapping[str, str], keys: KeyStore) -> Signer:
    """Take into use what the log says is in use; returns the key that signs the next event.

    Arguments:
        in_use: key id by purpose, as the log has it (`store.keys_in_use`). In a log that has no first event yet it
            is empty, and the key store's own keys are the ones.

    Raises:
        KeyUnavailableError: another process rotated, and this key store does not have the new key.
    """
    if all(purpose in in_use for purpose in PURPOSES):
        keys.use({purpose: in_use[purpose] for purpose in PURPOSES})
    return keys.log_signer


def event_signers(keys: KeyStore, body: Body) -> tuple[Signer, ...]:
    """Who signs an event, in order: the log key, and for a rotation who hands over and who takes over.

    Raises:
        KeyUnavailableError: the key store does not have the key that takes over.
    """
    log = keys.log_signer
    if not isinstance(body, KeyRotated):
        return (log,)
    new = keys.held(body.purpose, body.new_key)
    return (log, new) if body.purpose == "log" else (log, keys.delta_signer, new)


def head_signers(log: Signer, keys: KeyStore, last: Body) -> tuple[Signer, ...]:
    """Who signs the head behind the event `last`: the key that signed it, and the one that it hands the log over to."""
    if isinstance(last, KeyRotated) and last.purpose == "log":
        return (log, keys.held("log", last.new_key))
    return (log,)


def refuse_after_rotation(bodies: Sequence[Body]) -> None:
    """Refuse a turn in which something follows a rotation.

    Raises:
        InputError: it does.
    """
    if any(isinstance(body, KeyRotated) for body in bodies[:-1]):
        raise InputError("A key takes over after its rotation: write the rotation last, and what follows it by itself.")
