"""Witnesses next door: real ones, each with a folder and a key of its own, and the policy that names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mass_gov.evidence.checkpoint import vkey
from mass_gov.evidence.witness_policy import WitnessPolicy, parse_witness_policy
from mass_gov.flows.heads import Cosigned, keep_cosignatures, prove_growth
from mass_gov.flows.witness import Witness
from mass_gov.ledger import Ledger

NOW = 1_800_000_000


@dataclass
class Neighbours:
    """Three witnesses that follow one log, of whom two make a quorum."""

    witnesses: list[Witness]
    policy: WitnessPolicy
    policy_text: str

    @classmethod
    def of(cls, ledger: Ledger, folder: Path, quorum: int = 2) -> Neighbours:
        """Make three witnesses that follow the log of a ledger."""
        witnesses = [Witness.create(folder / f"w{i}", f"w{i}.example") for i in range(3)]
        for witness in witnesses:
            witness.follow(ledger.origin, ledger.log_key)
        lines = [f"witness w{i} {witness.key.vkey}" for i, witness in enumerate(witnesses)]
        text = "\n".join([*lines, f"group some {quorum} w0 w1 w2", "quorum some\n"])
        return cls(witnesses, parse_witness_policy(text.encode()), text)

    def request(self, who: int, ledger: Ledger) -> bytes:
        """What a log's owner sends to a witness: from the size that it cosigned last to the newest head."""
        return prove_growth(ledger, self.witnesses[who].followed()[0].size)

    def cosign(self, ledger: Ledger, *who: int, now: int = NOW) -> Cosigned:
        """Have some of them cosign the newest head, and keep what they answer."""
        for one in who:
            line = self.witnesses[one].add_checkpoint(self.request(one, ledger), now)
            kept = keep_cosignatures(ledger, line.encode(), self.policy)
        return kept

    def policy_for(self, ledger: Ledger) -> WitnessPolicy:
        """The policy with a `log` line for a ledger's log."""
        line = f"log {vkey(ledger.origin, ledger.log_key)}\n"
        return parse_witness_policy((line + self.policy_text).encode())
