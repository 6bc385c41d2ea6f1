"""README's tree and the files agree: each file that git tracks has one line, each line has a file and a description."""

from __future__ import annotations

import re

import pytest

from tests.contract.checkout import ROOT, read, tracked_files

IN_FULL = ("mass_gov/", "migrations/", "policies/", "docs/", "bench/", ".ci/")
"""Folders whose every file has a line; elsewhere a line may stand for a whole folder."""
WEIGHTS = "mass_gov/mass/trained/"
"""There as well: each folder in it is a model, of files like those of `reference/`."""


EXAMPLES = re.compile(r"policies/[a-z]+/(accept|hold|reject)/")
"""And there: one line stands for the example changes of one verdict."""


def parse_tree(readme: str) -> dict[str, str]:
    """Return {path: description} of the tree: two spaces a level, a name, two spaces or more, a description."""
    block = re.search(r"^## Files\n.*?^```text\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert block, "README has no tree under `## Files`"
    found: dict[str, str] = {}
    parents: list[str] = []
    for line in block[1].splitlines():
        match = re.fullmatch(r"((?:  )*)(\S+)(?: {2,}(\S.*))?", line)
        assert match, f"not a line of the tree: {line!r}"
        depth, name, description = len(match[1]) // 2, match[2], match[3] or ""
        assert depth <= len(parents), f"this line hangs in the air: {line!r}"
        path = "".join(parents[:depth]) + name
        assert path not in found, f"{path} stands here twice"
        parents[depth:] = [name] if name.endswith("/") else []
        found[path] = description
    return found


def missing(paths: list[str], tree: dict[str, str]) -> list[str]:
    """Paths without a line of their own and, where that is enough, without a folder's line that has nothing below."""
    leaves = {name for name in tree if name.endswith("/") and not any(o != name and o.startswith(name) for o in tree)}
    gaps = []
    for path in paths:
        in_full = path.startswith(IN_FULL) and not path.startswith(WEIGHTS) and not EXAMPLES.match(path)
        whole = not in_full and any(path.startswith(folder) for folder in leaves)
        if path not in tree and not whole:
            gaps.append(path)
    return gaps


def test_every_tracked_file_has_a_line() -> None:
    assert not missing(tracked_files(), parse_tree(read("README.md")))


def test_every_line_has_a_tracked_file() -> None:
    tracked = tracked_files()
    assert not [p for p in parse_tree(read("README.md")) if not any(t == p or t.startswith(p) for t in tracked)]


def test_every_line_says_what_the_file_is_for() -> None:
    assert not [path for path, description in parse_tree(read("README.md")).items() if len(description.split()) < 2]


def test_the_table_of_contents_names_every_page() -> None:
    readme = read("README.md")
    pages = [page.relative_to(ROOT).as_posix() for page in sorted((ROOT / "docs").rglob("*.md"))]
    listed = [page for page in pages if not page.startswith("docs/decisions/0")]
    assert not [page for page in listed if f"]({page})" not in readme]


def test_the_checks_see_what_is_missing() -> None:
    tree = parse_tree("## Files\n```text\nmass_gov/  the package\n  a.py  one thing\ntests/  the tests\n```\n")
    assert missing(["mass_gov/a.py", "tests/unit/test_a.py"], tree) == []
    assert missing(["mass_gov/b.py", "setup.py"], tree) == ["mass_gov/b.py", "setup.py"]
    assert missing([f"{WEIGHTS}one/config.json"], tree) == [f"{WEIGHTS}one/config.json"]
    assert missing([f"{WEIGHTS}one/config.json"], {**tree, f"{WEIGHTS}one/": "weights of one"}) == []


@pytest.mark.parametrize("line", ["    too_deep.py  hangs in the air", "three spaces  of nothing", "   odd.py  odd"])
def test_a_crooked_tree_is_refused(line: str) -> None:
    with pytest.raises(AssertionError):
        parse_tree(f"## Files\n```text\n{line}\n```\n")
