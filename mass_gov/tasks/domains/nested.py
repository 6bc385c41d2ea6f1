"""Domain `nested` (rewrite): arithmetic with parentheses, worked by rewriting the innermost one."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Union

from mass_gov.tasks.domains.base import Domain
from mass_gov.tasks.task import Split, split_by_hash

_ALLOWED = re.compile(r"[0-9+\-*()]{3,40}")
_TOKEN = re.compile(r"[0-9]+|[+\-*()]")
_LIMIT = 20  # no intermediate value leaves 0..20, so the arithmetic stays in one small table
_LARGEST = 6  # operands are 1..6

Node = Union[int, "Pair"]


@dataclass(frozen=True, slots=True)
class Pair:
    """`left op right`."""

    op: str
    left: Node
    right: Node


def evaluate(node: Node) -> int:
    """The value of an expression."""
    if isinstance(node, int):
        return node
    left, right = evaluate(node.left), evaluate(node.right)
    return left + right if node.op == "+" else left - right if node.op == "-" else left * right


def text(node: Node) -> str:
    """Fully parenthesised below the root: `(3+4)*(9-2)`."""
    if isinstance(node, int):
        return str(node)
    return f"{_inner(node.left)}{node.op}{_inner(node.right)}"


def _inner(node: Node) -> str:
    return str(node) if isinstance(node, int) else f"({text(node)})"


def size(node: Node) -> int:
    """Number of operations."""
    return 0 if isinstance(node, int) else 1 + size(node.left) + size(node.right)


def small(node: Node) -> bool:
    """Whether every intermediate value stays in 0.._LIMIT."""
    if isinstance(node, int):
        return True
    return small(node.left) and small(node.right) and 0 <= evaluate(node) <= _LIMIT


def reduce_once(node: Pair) -> Node:
    """Replace the leftmost operation between two numbers by its value."""
    if isinstance(node.left, Pair):
        return Pair(node.op, reduce_once(node.left), node.right)
    if isinstance(node.right, Pair):
        return Pair(node.op, node.left, reduce_once(node.right))
    return evaluate(node)


def parts(node: Pair) -> list[Pair]:
    """The proper sub-expressions that are no numbers."""
    below = [child for child in (node.left, node.right) if isinstance(child, Pair)]
    return [*below, *(part for child in below for part in parts(child))]


def simpler(node: Pair) -> list[Pair]:
    """The equal expressions that the working passes through."""
    found, after = [], reduce_once(node)
    while isinstance(after, Pair):
        found.append(after)
        after = reduce_once(after)
    return found


class NestedDomain(Domain[Pair]):
    """Asked: `(3+(8-2))*4`. Operands are 1..6, all values on the way stay in 0..20.

    Held out: by composition. The signature of an expression is its text with every number written as n; a quarter of
    the signatures of three and of four operations is hard, by hash; a quarter of those of three, and the others of
    four, are for meta-training. Hard space: > 10^5 questions. Chance: below 1/9 (the most frequent value).
    """

    name = "nested"
    kind = "rewrite"
    chance = 1 / 9

    def draw(self, rng: random.Random, split: Split) -> Pair:
        count = rng.choice((1, 2, 2, 3, 3) if split == "easy" else (3, 3, 4))
        return self._of_size(count, rng)

    def ease(self, problem: Pair, rng: random.Random) -> Pair:
        """At most two operations: a part of the task, the task some steps on, or fresh numbers."""
        near = [node for node in (*parts(problem), *simpler(problem)) if size(node) <= 2]
        if near and rng.randrange(3):
            return rng.choice(near)
        return self._of_size(rng.choice((1, 2)), rng)

    def _of_size(self, count: int, rng: random.Random) -> Pair:
        while True:
            node = self._tree(count, rng)
            if isinstance(node, Pair) and small(node):
                return node

    def _tree(self, count: int, rng: random.Random) -> Node:
        if count == 0:
            return rng.randrange(1, _LARGEST + 1)
        left = rng.randrange(count)
        op = rng.choice("+-*")
        return Pair(op, self._tree(left, rng), self._tree(count - 1 - left, rng))

    def split_of(self, problem: Pair) -> Split:
        if size(problem) < 3:
            return "easy"
        split = split_by_hash(self.name, self.signature(problem))
        return "meta" if size(problem) > 3 and split == "easy" else split

    def signature(self, problem: Pair) -> str:
        """The composition without its numbers: `(n+(n-n))*n`."""
        return re.sub(r"[0-9]+", "n", text(problem))

    def level(self, problem: Pair) -> int:
        return size(problem)

    def render(self, problem: Pair) -> str:
        return text(problem)

    def parse(self, question: str) -> Pair | None:
        if not _ALLOWED.fullmatch(question):
            return None
        node, rest = _read_pair(_TOKEN.findall(question))
        if node is None or rest or not small(node) or text(node) != question:
            return None
        return node

    def answer(self, problem: Pair) -> str:
        return str(evaluate(problem))

    def working(self, problem: Pair) -> str:
        lines, node = [], reduce_once(problem)
        while isinstance(node, Pair):
            lines.append(text(node))
            node = reduce_once(node)
        return "=".join(lines)


def _read_pair(tokens: list[str]) -> tuple[Pair | None, list[str]]:
    """Recursive descent over `operand op operand`; (None, _) on anything else."""
    left, rest = _read_operand(tokens)
    if left is None or not rest or rest[0] not in "+-*":
        return None, rest
    right, after = _read_operand(rest[1:])
    return (None, after) if right is None else (Pair(rest[0], left, right), after)


def _read_operand(tokens: list[str]) -> tuple[Node | None, list[str]]:
    if not tokens:
        return None, []
    if tokens[0].isdigit():
        return int(tokens[0]), tokens[1:]
    if tokens[0] != "(":
        return None, tokens
    node, rest = _read_pair(tokens[1:])
    return (node, rest[1:]) if node is not None and rest[:1] == [")"] else (None, rest)
