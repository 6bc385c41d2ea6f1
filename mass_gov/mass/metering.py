"""What computing costs, counted and never timed.

Rules: a token costs 2 FLOPs per parameter forward and 4 more backward (Kaplan et al., 2020, arXiv 2001.08361,
section 2.1, here over all parameters, tied ones once). Every position that a batch holds is counted, padding and
finished rows too, because the machine computes them. Backward is charged in full although a frozen base needs no
weight gradients, so an update's figure is an upper bound.

Does not know seconds, money, or attention's quadratic term (small against the rest at these lengths).
"""

from __future__ import annotations

from dataclasses import dataclass

FORWARD_FLOPS = 2
BACKWARD_FLOPS = 4


@dataclass
class Meter:
    """A running count. `flops` and `generated_tokens` are exact integers and only ever grow."""

    flops: int = 0
    generated_tokens: int = 0

    def forward(self, parameters: int, positions: int) -> None:
        """Charge one forward pass over `positions` tokens."""
        self.flops += FORWARD_FLOPS * parameters * positions

    def backward(self, parameters: int, positions: int) -> None:
        """Charge the backward pass that follows it."""
        self.flops += BACKWARD_FLOPS * parameters * positions

    def generated(self, tokens: int) -> None:
        """Count tokens that the model wrote, stop tokens included."""
        self.generated_tokens += tokens

    def add(self, other: Meter) -> None:
        """Count what another one counted."""
        self.flops += other.flops
        self.generated_tokens += other.generated_tokens
