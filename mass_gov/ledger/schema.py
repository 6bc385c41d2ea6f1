"""The tables, as queries see them. `migrations/versions/` makes them; a test holds the two to each other.

Two kinds of table, and the difference is the whole design:

- **the log** (`log_events log_nodes log_checkpoints artifacts`): append-only by trigger, proven by signatures and
  hashes, never rebuilt. Whatever is not in these four tables and the key store can be lost without loss, but for
  refusals that were counted and not logged yet (`denials`) and answers that could be given again (`replies`), which
  are neither of the two kinds.
- **projections** (the rest): what readers query. Every column is derived from the log by `projector`, so they can be
  dropped and rebuilt, and `verify` compares them row by row.

Digests are 32-byte BLOBs in the log and 64 hex digits in projections. `index` is always a log index. Every table but
`artifacts` clusters on its primary key, so that a scan reads the row itself and not an index that may disagree with it.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table, Text

SCHEMA_HEAD = "0008"
"""Newest revision in `migrations/versions/`: what this program reads and writes."""
OLDER_REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""What this program brings up to the newest when it opens a ledger to write."""

POSTGRES_SCHEMA = "mass_gov"
"""PostgreSQL's namespace of a ledger. One database holds one ledger; other programs' tables may lie beside it."""

metadata = MetaData()

# SQLite's STRICT tables know INTEGER only; PostgreSQL needs the wide type.
_INT = BigInteger().with_variant(Integer(), "sqlite")

log_events = Table(
    "log_events",
    metadata,
    Column("index", _INT, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary, nullable=False),
    Column("prev_root", LargeBinary, nullable=False),
    Column("root", LargeBinary, nullable=False),
)
log_nodes = Table(
    "log_nodes",
    metadata,
    Column("level", _INT, primary_key=True, autoincrement=False),
    Column("position", _INT, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)
log_checkpoints = Table(
    "log_checkpoints",
    metadata,
    Column("size", _INT, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
    Column("tally", LargeBinary),  # what the rows of projections added up to then (`ledger.tally`); proves nothing
)
artifacts = Table(
    "artifacts",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("stored", LargeBinary, nullable=False),
)

registrations = Table(
    "registrations",
    metadata,
    Column("index", _INT, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),  # model, suite, policy or proposal
    Column("digest", Text, nullable=False),
    Column("name", Text),  # of a suite or a policy; of a model its prompt template; of a proposal who made it
)
changes = Table(
    "changes",
    metadata,
    Column("change_id", Text, primary_key=True),
    Column("index", _INT, nullable=False),
    Column("leaf_hash", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("requester", Text, nullable=False),
    Column("request_commitment", Text, nullable=False),
    Column("base_model", Text, nullable=False),
    Column("parent_state", Text, nullable=False),
    Column("pointer_head", _INT),
    Column("policy", Text, nullable=False),
    Column("suite", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("delta", Text),
    Column("status", Text, nullable=False),
    Column("activation_index", _INT),
    Column("rejection_index", _INT),
    Column("rollback_index", _INT),
    Column("subject", Text, nullable=False),
)
approvals = Table(
    "approvals",
    metadata,
    Column("index", _INT, primary_key=True, autoincrement=False),
    Column("change_id", Text, nullable=False),
    Column("meaning", Text, nullable=False),  # apply or promote
    Column("approver", Text, nullable=False),
    Column("required", _INT, nullable=False),
    Column("self_approved", _INT, nullable=False),
)
pointers = Table(
    "pointers",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("deployment", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("change_id", Text),  # whose delta makes the state; NULL when it is the base itself
    Column("head_index", _INT, nullable=False),
    Column("base_model", Text, nullable=False),  # what the state stands on
)
pointer_moves = Table(
    "pointer_moves",
    metadata,
    Column("index", _INT, primary_key=True, autoincrement=False),
    Column("tenant", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("cause", Text, nullable=False),  # envelope, approval, promotion, rollback or rebase
    Column("moved_by", Text),  # the change that was activated or rolled back; NULL of a move to another base model
    Column("from_head", _INT),
    Column("from_state", Text, nullable=False),
    Column("from_change", Text),
    Column("to_state", Text, nullable=False),
    Column("to_change", Text),
    Column("base_model", Text, nullable=False),  # what `to_state` stands on
)
responses = Table(
    "responses",
    metadata,
    Column("response_id", Text, primary_key=True),
    Column("index", _INT, nullable=False),
    Column("change_id", Text),
    Column("tenant", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("served", Text, nullable=False),
    Column("subject", Text),  # of an answer that no update stands behind; else it is the change's
)
log_keys = Table(
    "log_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("purpose", Text, nullable=False),  # log or delta
    Column("public_key", Text, nullable=False),  # SubjectPublicKeyInfo DER, base64
    Column("from_index", _INT, nullable=False),  # index of the first event at which it is valid
    Column("to_index", _INT),  # index of the event that handed over to the next; it still signs that one
    Column("revoked_index", _INT),
    Column("compromised", _INT),  # 0 or 1, with a revocation
    Column("trusted_size", _INT),  # of a compromised key: what it signed is believed up to this size
)
subjects = Table(
    "subjects",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("held_index", _INT),  # index of the legal hold in force; NULL when there is none
    Column("erased_index", _INT),
)
controls = Table(
    "controls",
    metadata,
    Column("index", _INT, primary_key=True, autoincrement=False),
    Column("tenant", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("extent", Text, nullable=False),  # deployment or everywhere
    Column("cause", Text, nullable=False),  # operator, monitor or regression
    Column("monitor", Text),
    Column("frozen_by", Text, nullable=False),
    Column("ended_index", _INT),  # index of the event that let learning go on; NULL while frozen
)
incidents = Table(
    "incidents",
    metadata,
    Column("incident_id", Text, primary_key=True),
    Column("index", _INT, nullable=False),
    Column("opened", Text, nullable=False),  # leaf hash of the event that opened it
    Column("tenant", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("opened_by", Text, nullable=False),
    Column("opened_at", Text, nullable=False),  # time of the event
    Column("aware_at", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("due_at", Text),  # until when it is to be reported; NULL where nobody has to be told
    Column("acknowledged_index", _INT),
    Column("reported_index", _INT),
    Column("reported_at", Text),
    Column("closed_index", _INT),
    Column("outcome", Text),  # resolved or unfounded
)
incident_updates = Table(
    "incident_updates",
    metadata,
    Column("index", _INT, primary_key=True, autoincrement=False),
    Column("incident_id", Text, nullable=False),
    Column("step", Text, nullable=False),  # acknowledged, noted, regraded or reported
    Column("author", Text, nullable=False),
)

principals = Table(
    "principals",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("index", _INT, nullable=False),  # index of the event that says so
    Column("roles", Text, nullable=False),  # by commas; empty of one who may do nothing any more
    Column("scopes", Text, nullable=False),  # by commas
    Column("public_key", Text),  # SubjectPublicKeyInfo DER, base64: its own Ed25519 key
    Column("tenants", Text),  # by commas: those it is let into; NULL of one that is let into all
)
tokens = Table(
    "tokens",
    metadata,
    Column("token_id", Text, primary_key=True),
    Column("index", _INT, nullable=False),
    Column("principal", Text, nullable=False),
    Column("token_hash", Text, nullable=False),
    Column("issued_at", Text, nullable=False),  # time of the event
    Column("expires_at", Text),
    Column("revoked_index", _INT),
)
events = Table(
    "events",
    metadata,
    Column("index", _INT, primary_key=True, autoincrement=False),
    Column("time", Text, nullable=False),
    Column("reached", Text, nullable=False),  # the latest time that the log had said up to this event
    Column("type", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("change_id", Text),  # that it is about
    Column("terms", Text, nullable=False),  # by lines: words that do not follow from the other columns
)
marks = Table(
    "marks",
    metadata,
    Column("term", Text, primary_key=True),  # a word that may be true of an event (`ledger.marks`)
    Column("block", _INT, primary_key=True, autoincrement=False),  # of which 4096 events
    Column("bits", LargeBinary, nullable=False),  # little-endian: bit k is of the k-th of them
)
replies = Table(
    "replies",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("key", Text, primary_key=True),  # the Idempotency-Key
    Column("request", Text, nullable=False),  # digest of what was asked
    Column("asked_at", Text, nullable=False),
    Column("status", _INT),  # of the answer; NULL while it is under way
    Column("etag", Text),
    Column("body", Text),
)
denials = Table(
    "denials",
    metadata,
    Column("principal", Text, primary_key=True),
    Column("action", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("deployment", Text, nullable=False),
    Column("change_id", Text),  # what the refusals counted here were about; NULL of several or none
    Column("count", _INT, nullable=False),  # refusals that no event has summed up yet
    Column("logged_at", Text, nullable=False),  # when an event last summed some up, or was about to
)
LOG_TABLES = (log_events, log_nodes, log_checkpoints, artifacts)
PROJECTIONS = (
    registrations,
    changes,
    approvals,
    pointers,
    pointer_moves,
    responses,
    log_keys,
    subjects,
    principals,
    tokens,
    controls,
    events,
    marks,
    incidents,
    incident_updates,
)
COUNTERS = (denials, replies)
"""Neither log nor projection: what is counted goes into the log later, and an answer is given again for a day."""
