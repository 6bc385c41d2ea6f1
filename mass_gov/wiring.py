"""The composition root: settings in; key store, ledger and workbench out.

Rules: what an auditor needs (`open_ledger`, `open_keys`) imports no torch, not even lazily; `open_workbench` is the one
place where the learner's side is imported, and says what to install where it is absent.
"""

from __future__ import annotations

import datetime as dt
import getpass
import sys
from collections.abc import Collection
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from mass_gov.config import Settings
from mass_gov.config_data import data_folder
from mass_gov.errors import InputError, MissingExtraError, NotFoundError, PolicyError
from mass_gov.evidence.canonical import canonical_bytes, sha256_hex
from mass_gov.evidence.files import read_at_most
from mass_gov.evidence.keystore import SYSTEM_SUBJECT, KeyStore
from mass_gov.evidence.signing_keys import PURPOSES
from mass_gov.evidence.state import state_digest
from mass_gov.flows.authority import Acting, Claim, identify
from mass_gov.flows.expiry import expire
from mass_gov.flows.initialise import activate_first_policy, policy_in_force, register_model
from mass_gov.flows.notify import Outbox, Webhook
from mass_gov.ledger import Address, Ledger, ledger_exists
from mass_gov.policy import Policy, load_policy
from mass_gov.policy.permissions import Action
from mass_gov.policy.strict_yaml import MAX_BYTES
from mass_gov.records.change import SCOPES
from mass_gov.records.events import Actor, Role
from mass_gov.records.settings import AdaptationSpec
from mass_gov.tasks.shipped_suites import suite_bytes

if TYPE_CHECKING:
    from mass_gov.flows.kept import Kept
    from mass_gov.flows.outcomes import OutcomeStore
    from mass_gov.flows.workbench import Workbench
    from mass_gov.mass.learner import Learner
    from mass_gov.stages.regression import RegressionRunner
    from mass_gov.tasks.anchors import AnchorPool

FIRST_POLICY = "solo"
"""What a laptop gets on first use."""


def now() -> dt.datetime:
    """Return the present moment, aware, in UTC."""
    return dt.datetime.now(dt.UTC)


def actor(settings: Settings, role: Role = "operator") -> Actor:
    """Return the name that is self-asserted on the command line: it writes nothing once principals are registered."""
    return Actor(principal=settings.principal, role=role)


def acting(settings: Settings, ledger: Ledger, action: Action, among: Collection[str] = ()) -> Acting:
    """Return who acts on the command line, in a role that may take `action`: by token once principals are registered.

    Raises:
        PermissionRefusedError: no good token, or nobody who may.
    """
    token = settings.token.get_secret_value() if settings.token is not None else None
    claim = Claim(settings.principal if "principal" in settings.model_fields_set else None, token)
    return identify(ledger, claim, action, ledger.now(), among=among, fallback=settings.principal)


def open_keys(settings: Settings, *, create: bool = False) -> KeyStore:
    """Open the key store; with `create`, make a new one where there is none.

    A passphrase comes from the setting. Where there is none and the store needs one, a person at a terminal is asked,
    once per process.
    """
    folder = settings.key_folder
    secret = settings.passphrase.get_secret_value() if settings.passphrase is not None else None
    if secret is None and sys.stdin is not None and sys.stdin.isatty() and KeyStore.is_protected(folder):
        secret = _asked(folder)
    return KeyStore.open(folder, passphrase=secret, create=create)


def unattended(settings: Settings) -> Settings:
    """Return the settings for processes that nobody sits before: with the passphrase that would be asked for."""
    if settings.passphrase is not None or sys.stdin is None or not sys.stdin.isatty():
        return settings
    if not KeyStore.is_protected(settings.key_folder):
        return settings
    return settings.model_copy(update={"passphrase": SecretStr(_asked(settings.key_folder))})


def outbox(settings: Settings) -> Outbox | None:
    """Return where what waits is told; None where nobody asked for it.

    Raises:
        SettingsError: the address or the secret cannot be used.
    """
    if settings.webhook_url is None:
        return None
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret is not None else None
    return Outbox(settings.notification_folder, Webhook.of(settings.webhook_url, secret))


def signing_passphrase(settings: Settings, path: Path) -> bytes | None:
    """Return the passphrase of an approver's own key: from the setting, or asked for where the file wants one."""
    if settings.signing_passphrase is not None:
        return settings.signing_passphrase.get_secret_value().encode()
    try:
        encrypted = b"ENCRYPTED" in read_at_most(path, 4096)
    except OSError:
        return None  # whoever loads it says what is wrong
    if encrypted and sys.stdin is not None and sys.stdin.isatty():
        return getpass.getpass(f"Passphrase of {path}: ").encode()
    return None


@cache
def _asked(folder: Path) -> str:
    return getpass.getpass(f"Passphrase of the key store {folder}: ")


def address(settings: Settings) -> Address:
    """Return where the ledger lies: a file in the home, or a server. It prints without its password."""
    return Address.of(settings.database_url or settings.database)


def owner_address(settings: Settings) -> Address | None:
    """Return as whom a server's schema is made, where that is another role than the application's."""
    return Address.of(settings.database_owner_url) if settings.database_owner_url is not None else None


def has_ledger(settings: Settings) -> bool:
    """Whether there is a ledger to read.

    Raises:
        LedgerUnavailableError: the server cannot be reached, so that nobody knows.
    """
    return ledger_exists(owner_address(settings) or address(settings), settings.busy_timeout)


def open_ledger(settings: Settings, *, create: bool = False) -> Ledger:
    """Open the ledger with its keys; with `create`, make both where there is no ledger yet.

    A ledger that is there keeps its keys: one that is lost is named and never made anew.

    Raises:
        NotFoundError: there is no ledger, and `create` is false.
    """
    if not create and not has_ledger(settings):
        raise _no_ledger(settings)
    return Ledger.open(
        address(settings),
        keys=open_keys(settings, create=create and not has_ledger(settings)),
        checkpoints=settings.checkpoint_folder,
        create=create,
        clock=now,
        timeout=settings.busy_timeout,
        owner=owner_address(settings) if create else None,
    )


def read_ledger(settings: Settings) -> Ledger:
    """Open the ledger without ever writing to it, also where the medium is read-only.

    Contents of artifacts open only where the key store is at hand; without one, an auditor still reads every event.

    Raises:
        NotFoundError: there is no ledger.
        KeyUnavailableError: the key store is another ledger's.
    """
    if not has_ledger(settings):
        raise _no_ledger(settings)
    ledger = Ledger.open(
        address(settings), keys=None, checkpoints=settings.checkpoint_folder, clock=now, timeout=settings.busy_timeout
    )
    if settings.key_folder.exists():
        try:
            keys = open_keys(settings)
            ring = ledger.key_ring
            keys.use({purpose: ring.in_use(purpose).keyid for purpose in PURPOSES})
        except BaseException:
            ledger.close()
            raise
        ledger.keys = keys
    return ledger


def ledger_place(settings: Settings) -> str:
    """Where a person would look for the ledger: the home, or the server's database."""
    return str(settings.home) if settings.database_url is None else str(address(settings))


def _no_ledger(settings: Settings) -> NotFoundError:
    return NotFoundError(
        f"there is no ledger in {ledger_place(settings)}. Run `mass-gov init` or `mass-gov solve`, or set "
        "MASS_GOV_HOME."
    )


def find_policy(name_or_path: str) -> Policy:
    """Load a shipped policy by name (its newest version), or a file by path.

    Raises:
        PolicyError: the file does not validate, or cannot be read.
        NotFoundError: no such policy.
    """
    return find_policy_file(name_or_path)[0]


def find_policy_file(name_or_path: str) -> tuple[Policy, Path]:
    """As `find_policy`, with where the file lies."""
    folder = data_folder("policies")
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        versions = sorted((folder / name_or_path).glob("v*.yaml"), key=lambda p: int(p.stem[1:] or 0))
        if "/" in name_or_path or not versions:
            known = ", ".join(shipped_policies())
            raise NotFoundError(f"there is no policy {name_or_path!r}. Use one of {known}, or a path to a .yaml file.")
        path = versions[-1]
    try:
        source = read_at_most(path, MAX_BYTES + 1)
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}; give a readable policy file.") from None
    return load_policy(source, str(path), new=True), path


def shipped_policies() -> list[str]:
    """Names of the policies that came with the program."""
    return sorted(p.name for p in data_folder("policies").iterdir() if any(p.glob("v*.yaml")))


def initialise(settings: Settings, policy: str | None) -> tuple[Ledger, Policy]:
    """Make what is missing (keys, ledger, a policy in force) and return the open ledger.

    Arguments:
        policy: name or path of the policy to start with; None keeps the one in force, or starts with `solo`.
    """
    chosen = find_policy(policy) if policy is not None else None
    if chosen is not None:
        for scope in SCOPES:  # a policy whose suite nobody has could not be replaced once in force
            suite_bytes(chosen.document.suite_for(scope))
    ledger = open_ledger(settings, create=True)
    try:
        current = policy_in_force(ledger)
        if current is None or chosen is not None:
            first = chosen or find_policy(FIRST_POLICY)
            current = activate_first_policy(ledger, first, actor(settings), settings.tenant, settings.deployment)
    except BaseException:
        ledger.close()
        raise
    return ledger, current


def model_folder(settings: Settings) -> Path:
    """Return the folder of the base model: the one that was named, or the shipped one."""
    if settings.model is not None:
        return settings.model
    from mass_gov.mass.reference_model import trained_folder  # noqa: PLC0415 - only where a model is wanted

    return trained_folder()


def recommended_spec(settings: Settings) -> AdaptationSpec:
    """Return the adaptation settings that the model's folder asks for (`flows.recommend`), or the general defaults.

    Raises:
        ModelError: a file of them is there and is not what it should be.
    """
    from mass_gov.flows.recommend import recommended  # noqa: PLC0415 - only where a model is wanted

    return recommended(model_folder(settings))


def open_workbench(
    settings: Settings,
    spec: AdaptationSpec,
    *,
    existing: Ledger | None = None,
    question: str | None = None,
    actor: Actor | None = None,
) -> Workbench:
    """Open everything an adaptation needs: the model, the ledger, the policy in force and its suite.

    Arguments:
        question: refused before anything is written where it cannot be posed to the model.
        existing: an open ledger to use as it is (replay): nothing is made and nothing is registered in it.
        actor: who acts until somebody asks; by default whoever acts on the command line.

    Raises:
        MissingExtraError: the learner's packages are not installed.
        ModelError: the model folder cannot be loaded safely. Nothing was written.
        TaskError: the question cannot be posed to this model. Nothing was written.
    """
    learner = open_model(settings)  # before anything is written
    from mass_gov.flows.suite_runs import SuiteRunners  # noqa: PLC0415 - torch stays off the auditor's side
    from mass_gov.flows.workbench import Workbench, register_suites  # noqa: PLC0415

    if question is not None:
        learner.check_question(question, max_new_tokens=spec.answer.max_new_tokens)
    ledger, policy = (existing, _any_policy(existing)) if existing is not None else initialise(settings, None)
    keys = ledger.keys or open_keys(settings)  # one store: it follows a rotation by another process
    # A bench laid over a ledger as it is computes everything again: it takes no remembered outcome on trust.
    outcomes = _outcomes(settings, learner, ledger, keys) if existing is None else None
    bench = Workbench(
        learner=learner,
        ledger=ledger,
        keys=keys,
        policy=policy,
        runners=SuiteRunners(learner, suite_bytes, outcomes),
        spec=spec,
        tenant=settings.tenant,
        deployment=settings.deployment,
        actor=actor or _benched(settings, ledger, existing),
        clock=now,
        anchors=_anchors(settings),
        kept=kept_of(settings) if existing is not None else None,
    )
    if existing is not None:
        return bench
    expire(ledger)
    where = (bench.actor, settings.tenant, settings.deployment)
    register_model(ledger, learner.base_digest, bench.template_digest, learner.parameter_count, *where)
    register_suites(bench)
    return bench


def _outcomes(settings: Settings, learner: Learner, ledger: Ledger, keys: KeyStore) -> OutcomeStore:
    """Where the answers of recorded states to the suites outlive the process: HOME/outcomes."""
    from mass_gov.flows.outcomes import OutcomeStore  # noqa: PLC0415

    base = state_digest(learner.base_digest, None)

    def owner(state: str) -> str | None:
        if state == base:
            return SYSTEM_SUBJECT  # nobody's data
        change = ledger.change_of_state(state)
        return change.body.identity.subject if change is not None else None

    fingerprint = sha256_hex(canonical_bytes(learner.fingerprint()))
    return OutcomeStore(settings.home / "outcomes", keys, settings.tenant, fingerprint, owner)


def open_deployment_runner(bench: Workbench, *, register: bool = True) -> RegressionRunner:
    """Return what runs the suite that the policy in force names for deployments, on the bench's model.

    Arguments:
        register: also register the suite where the ledger does not know it yet; else nothing is written.
    """
    from mass_gov.flows.workbench import register_suites  # noqa: PLC0415 - only where a bench is open

    policy = _policy_of(bench.ledger)
    if register:
        register_suites(replace(bench, policy=policy))
    # Whoever tests what is in use already takes no remembered outcome on trust.
    return bench.runners.again(bench.runners.suite(policy.document.suites.deployment), bench.spec.answer)


def open_model(settings: Settings) -> Learner:
    """Open the base model that the settings name, and nothing else.

    Raises:
        MissingExtraError: the learner's packages are not installed.
        ModelError: the model folder cannot be loaded safely.
        SettingsError: portable numerics was asked for, and this process was not started for it.
    """
    try:
        from mass_gov.executors.inline import InlineExecutor  # noqa: PLC0415 - torch stays off the auditor's side
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"this command needs the learner, and {error.name} is not installed. Run `pip install 'mass-gov[ml]'`."
        ) from None
    return InlineExecutor(settings.threads, settings.numerics).learner(model_folder(settings))


def _benched(settings: Settings, ledger: Ledger, existing: Ledger | None) -> Actor:
    if existing is None:
        return acting(settings, ledger, "solve").actor
    # Reading takes no token here: whoever can read the file can read it by any program.
    return acting(settings, ledger, "replay").actor if existing.writable else actor(settings, "auditor")


def _policy_of(ledger: Ledger) -> Policy:
    policy = policy_in_force(ledger)
    if policy is None:
        raise NotFoundError("no policy is in force in this ledger yet. Run `mass-gov init`.")
    return policy


def _any_policy(ledger: Ledger) -> Policy:
    """The policy in force or, where this release cannot read it, a shipped one: what is replayed brings its own."""
    try:
        return _policy_of(ledger)
    except PolicyError:
        return find_policy(FIRST_POLICY)


def kept_of(settings: Settings) -> Kept:
    """Return where a replay looks for what it was made with, if it is not at hand."""
    from mass_gov.flows.kept import Kept  # noqa: PLC0415 - torch stays off the auditor's side
    from mass_gov.mass.reference_model import reference_folder, trained_folders  # noqa: PLC0415 - likewise

    shipped = (*sorted(trained_folders().iterdir()), reference_folder())
    return Kept(settings.kept_folder, shipped, lambda folder: open_model(settings.model_copy(update={"model": folder})))


def _anchors(settings: Settings) -> AnchorPool:
    """Real tasks that a policy may mix in: the deployment's own file, or the ones that ship."""
    from mass_gov.tasks import anchors  # noqa: PLC0415 - only where something is learned

    if settings.anchors is None:
        return anchors.shipped_pool()
    try:
        return anchors.parse_pool(read_at_most(settings.anchors, anchors.MAX_BYTES + 1), str(settings.anchors))
    except OSError as error:
        raise InputError(f"{settings.anchors}: {error.strerror}; give a readable file of anchors.") from None
