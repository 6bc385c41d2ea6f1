"""The exception tree. A refusal by policy is data, not an exception; what stands here is bad input or an outage.

    MassGovError                     every error that this project raises on purpose
    ├── InputError                   what was asked cannot be done as asked; the caller can mend it
    │   ├── TaskError                an unusable task: empty, too long, control characters, not UTF-8
    │   │   └── TaskReusedError      its id stands for another question already
    │   ├── PolicyError              a policy file that does not validate
    │   ├── ModelError               a model folder that is missing, truncated, unsafe or of an unknown kind
    │   ├── SettingsError            an environment variable or option with an unusable value
    │   ├── NotFoundError            no such change, response, pointer, domain or artifact
    │   └── MissingExtraError        the learner is not installed (`pip install 'mass-gov[ml]'`)
    ├── RefusedError                 understood, and not allowed
    │   ├── PermissionRefusedError   the principal may not do this (approving one's own request, say)
    │   │   └── UnprovenError        nobody showed who they are: no token, or one that is not good
    │   ├── StaleChangeError         the pointer moved since the change was made: rebase it
    │   ├── FrozenError              learning is frozen there; serving goes on
    │   ├── PausedError              an hour's budget is spent, or a deployment cools down; serving goes on
    │   └── DependentsError          later changes stand on this one; `--cascade` takes them too
    ├── IntegrityError               a record is not what was signed; the message names the first wrong thing
    ├── NotRetainedError             erased, or never kept
    └── OutageError                  the world failed: nothing was half written
        ├── LedgerUnavailableError   the database is read-only, locked, full or of a newer schema
        ├── KeyUnavailableError      a key file is missing, unreadable or does not open with this passphrase
        └── AbandonedError           nobody waits for the answer any more, and nothing was decided yet

Every message is one sentence on what is wrong and one on what to do next. `mass_gov.cli` maps the branches to exit
statuses; nothing here knows about processes or HTTP.
"""

from __future__ import annotations


class MassGovError(Exception):
    """Root of every error raised on purpose. `str(error)` is meant for a person."""


class InputError(MassGovError):
    """What was asked cannot be done as asked."""


class TaskError(InputError):
    """A task that cannot be posed to a model."""


class TaskReusedError(TaskError):
    """The task's id stands for another question already."""


class PolicyError(InputError):
    """A policy file that does not validate."""


class ModelError(InputError):
    """A model folder that cannot be loaded safely."""


class SettingsError(InputError):
    """A setting with an unusable value."""


class NotFoundError(InputError):
    """The named thing is not in this ledger."""


class MissingExtraError(InputError):
    """The learner's packages are not installed."""


class RefusedError(MassGovError):
    """Understood, and not allowed."""


class PermissionRefusedError(RefusedError):
    """The principal may not do this."""


class UnprovenError(PermissionRefusedError):
    """Whoever asks did not show who they are."""


class StaleChangeError(RefusedError):
    """The pointer moved since the change was made."""


class FrozenError(RefusedError):
    """Learning is frozen there."""


class PausedError(RefusedError):
    """An hour's budget is spent, or a deployment cools down after a rollback."""


class DependentsError(RefusedError):
    """Later changes stand on this one."""


class IntegrityError(MassGovError):
    """A record is not what was signed."""


class NotRetainedError(MassGovError):
    """The content was erased, or never kept."""


class OutageError(MassGovError):
    """The world failed; nothing was half written."""


class LedgerUnavailableError(OutageError):
    """The database cannot be used as asked."""


class KeyUnavailableError(OutageError):
    """A key cannot be read or opened."""


class AbandonedError(OutageError):
    """Whoever asked is gone, and nothing was decided yet."""
