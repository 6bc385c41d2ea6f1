"""Rotate a signing key, revoke a former one, and say which is valid where. Needs no model and no torch.

The order of a rotation, and what a crash right after each step leaves; `evidence.signing_keys` says the same of the
store. Whoever opens the ledger next finishes or undoes it:

    (a) lock         nothing. One rotation at a time over all processes; a second one is refused at once
    (b) make         a key that nothing names: the next opening destroys it
    (c) record       `key.rotated`, signed by the old key and the new one: the log goes on with the new one
    (d) destroy      the old private key is gone. Nobody signs with it again, and a back-up of the keys from before
                     cannot continue the log either: back the keys up after a rotation

Only the refusals of (c) undo (b) at once. Where it is not known whether (c) was written, both keys stay until somebody
can read the log again. A stolen key is first rotated and then revoked, because the log needs a key to say so with.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from mass_gov.errors import (
    InputError,
    IntegrityError,
    KeyUnavailableError,
    NotFoundError,
    PermissionRefusedError,
    RefusedError,
    StaleChangeError,
)
from mass_gov.evidence.cosignature import cosignatures
from mass_gov.evidence.keyring import Purpose, Tenure
from mass_gov.evidence.keystore import KeyStore
from mass_gov.evidence.signing import Signer, VerificationKey
from mass_gov.evidence.signing_keys import PURPOSES
from mass_gov.evidence.witness_policy import NO_QUORUM, WitnessPolicy
from mass_gov.flows.approve import reason_artifact
from mass_gov.flows.authority import authorise
from mass_gov.flows.heads import cosigned_head
from mass_gov.ledger import Ledger
from mass_gov.records.drafts import EventDraft
from mass_gov.records.events import Actor, KeyRevoked, KeyRotated

STEPS = ("made", "recorded", "destroyed")
"""The points at which tests end the process."""

_PLACE = ("system", "keys")
"""Tenant and deployment of events about keys: one key signs for all of them."""
_LEAST_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did: `old` signs nothing after the event `index`."""

    purpose: Purpose
    old: VerificationKey
    new: VerificationKey
    index: int


def rotate(
    ledger: Ledger, purpose: Purpose, actor: Actor, *, trip: Callable[[str], None] = lambda step: None
) -> Rotated:
    """Hand a purpose over to a new key, and destroy the old private key.

    Raises:
        PermissionRefusedError: the actor is neither operator nor admin.
        RefusedError: another process is rotating a key.
        StaleChangeError: another process rotated this key since the ledger was opened.
        KeyUnavailableError: the key store is not here, or a key cannot be made or destroyed.
    """
    keys = _allowed(ledger, actor)
    with keys.rotation() as mine:  # (a)
        if not mine:
            raise RefusedError("Another process is rotating a key right now. Wait; then look at `mass-gov keys list`.")
        old = (keys.log_signer if purpose == "log" else keys.delta_signer).public_key
        if (in_use := ledger.key_ring.in_use(purpose).keyid) != old.keyid:
            keys.use(_in_use(ledger))  # whoever decides again knows
            raise StaleChangeError(
                f"The {purpose} key {old.keyid[:16]} was handed over from by another process, and {in_use[:16]} is in "
                "use. Look at `mass-gov keys list`, and rotate again if you still want to."
            )
        new = keys.make_signer(purpose)  # (b)
        trip("made")
        index = _record(ledger, keys, EventDraft(actor, *_PLACE, _rotation(purpose, old, new)))  # (c)
        trip("recorded")
        keys.finish_rotation(_in_use(ledger))  # (d)
        trip("destroyed")
    return Rotated(purpose, old, new.public_key, index)


def revoke(
    ledger: Ledger, keyid: str, actor: Actor, reason: str, *, compromised: bool, trusted_size: int | None = None
) -> Tenure:
    """Revoke a key that was handed over from.

    Arguments:
        keyid: or its first digits, at least 8 and enough for one key.
        compromised: somebody else may have had it, so that it is believed up to `trusted_size` only.
        trusted_size: size of the newest head known to be honest, as `witnessed_size` finds it; None for none.

    Raises:
        PermissionRefusedError: the actor is neither operator nor admin.
        NotFoundError: the log has no such key, or several.
        InputError: the trusted size is beyond the log.
        RefusedError: the key is in use, or was revoked before.
    """
    _allowed(ledger, actor)
    tenure = find_key(ledger, keyid)
    size = ledger.size
    trusted = size if not compromised else trusted_size or 0
    if not 0 <= trusted <= size:
        raise InputError(
            f"A key cannot be believed up to size {trusted}: the log has {size} events. Give a size of it."
        )
    body = KeyRevoked(purpose=tenure.purpose, key=tenure.key.keyid, compromised=compromised, trusted_size=trusted)
    ledger.append([EventDraft(actor, *_PLACE, body, (reason_artifact(reason),))])
    return find_key(ledger, tenure.key.keyid)


def find_key(ledger: Ledger, keyid: str) -> Tenure:
    """The tenure of a key, by its keyid or the first digits of it.

    Raises:
        NotFoundError: the log has no such key, or several.
    """
    wanted = keyid.strip().lower().removeprefix("sha256:")
    found = [t for t in ledger.key_ring if len(wanted) >= _LEAST_DIGITS and t.key.keyid.startswith(wanted)]
    if len(found) != 1:
        what = f"{len(found)} keys of this log start with" if found else "this log has no key"
        raise NotFoundError(
            f"{what} {wanted[:64]!r}. Give the keyid, or at least {_LEAST_DIGITS} digits of it: `mass-gov keys list`."
        )
    return found[0]


def witnessed_size(ledger: Ledger, policy: WitnessPolicy, now: int) -> int:
    """Size of the newest kept head that a quorum of witnesses cosigned; 0 where none did.

    Arguments:
        policy: the witnesses that count, and how many of them.
        now: seconds since the epoch; a cosignature from after it does not count.

    Raises:
        IntegrityError: witnesses have cosigned another log than this one.
    """
    if policy.quorum == NO_QUORUM:
        return 0
    for size in sorted(ledger.outside.sizes(), reverse=True):
        try:
            head = cosigned_head(ledger, size)
        except NotFoundError:
            continue  # the row of a head may go; those above it vouch for it
        if policy.judge(cosignatures(head.note, policy.witnesses.values()), now).quorum:
            return size
    return 0


def _record(ledger: Ledger, keys: KeyStore, draft: EventDraft) -> int:
    """(c) Write the rotation; a refusal takes the new key away again."""
    try:
        return ledger.append([draft])[0].index
    except (RefusedError, InputError, IntegrityError):
        keys.finish_rotation(_in_use(ledger))
        raise


def _rotation(purpose: Purpose, old: VerificationKey, new: Signer) -> KeyRotated:
    public = base64.b64encode(new.public_key.spki).decode("ascii")
    return KeyRotated(purpose=purpose, old_key=old.keyid, new_key=new.keyid, new_public_key=public)


def _in_use(ledger: Ledger) -> dict[Purpose, str]:
    ring = ledger.key_ring
    return {purpose: ring.in_use(purpose).keyid for purpose in PURPOSES}


def _allowed(ledger: Ledger, actor: Actor) -> KeyStore:
    authorise(ledger, actor, "keys", _PLACE)
    if actor.role not in ("operator", "admin"):
        raise PermissionRefusedError(
            f"{actor.principal} acts as {actor.role}: only operators and admins decide about keys. Ask one of them."
        )
    if ledger.keys is None:
        raise KeyUnavailableError("This ledger was opened for reading. Open it with its key store.")
    return ledger.keys
