"""The house keeps its rules: imports, cycles, docstrings, the exception tree, and calls that nobody may make."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys

import grimp
import pytest

from mass_gov import errors
from tests.contract.checkout import ROOT, read, sources, tracked_files

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
RUNS_GENERATED_CODE = "mass_gov/tasks/_code_process.py"
"""The one module that may `exec` and `compile`: its process is isolated before it reads anything (decision 0011)."""
FORBIDDEN_CALLS = {"os.system", "os.popen", "torch.load", "yaml.load", "subprocess.getoutput"}
OPEN_ENDS = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+|tmp/w)/")
TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".json", ".jsonl", ".sh", ".cfg", ".ini", ""}


def test_import_rules_hold() -> None:
    # In a process of its own: it switches off every logger that there is, for the tests after this one too.
    lint = [sys.executable, "-c", "import importlinter.cli as c; raise SystemExit(c.lint_imports(no_cache=True))"]
    done = subprocess.run(lint, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_no_import_cycles() -> None:
    graph = grimp.build_graph("mass_gov", exclude_type_checking_imports=True, cache_dir=None)
    cycles = set()
    for module in sorted(graph.modules):
        for imported in graph.find_modules_directly_imported_by(module):
            chain = graph.find_shortest_chain(imported, module)
            if chain is not None:
                cycles.add(" -> ".join([module, *chain]))
    assert not cycles


def test_every_public_name_has_a_docstring() -> None:
    bare = []
    for path, tree in sources():
        if not (ast.get_docstring(tree) or not tree.body):
            bare.append(path)
        bare += [f"{path}: {name}" for name, node in _public(tree) if not ast.get_docstring(node)]
    assert not bare


def _public(tree: ast.Module) -> list[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions, classes and methods; a method that overrides or implements inherits its promise."""
    found: list[tuple[str, ast.FunctionDef | ast.ClassDef]] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            found.append((node.name, node))
            if isinstance(node, ast.ClassDef) and not node.bases:
                inner = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
                found += [(f"{node.name}.{method.name}", method) for method in inner]
    return found


def test_the_exception_tree_in_the_docstring_is_the_one_in_the_code() -> None:
    drawn: dict[str, str | None] = {}
    stack: list[tuple[int, str]] = []
    for depth, name in re.findall(r"^    ([│├└─ ]*)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE):
        while stack and stack[-1][0] >= len(depth):
            stack.pop()
        drawn[name] = stack[-1][1] if stack else None
        stack.append((len(depth), name))
    classes = {n: c for n, c in vars(errors).items() if inspect.isclass(c) and c.__module__ == errors.__name__}
    assert drawn == {
        name: cls.__base__.__name__ if cls.__base__ is not Exception else None for name, cls in classes.items()
    }


def test_nothing_is_executed_that_came_from_a_file() -> None:
    found = []
    for path, tree in sources():
        allowed = {"exec", "compile"} if path == RUNS_GENERATED_CODE else set()
        for node in ast.walk(tree):
            found += [
                f"{path}:{getattr(node, 'lineno', 0)}: {what}" for what in _dangerous(node) if what not in allowed
            ]
    assert not found


def test_the_module_that_runs_generated_code_is_only_ever_started_as_a_process() -> None:
    module = RUNS_GENERATED_CODE.removesuffix(".py").replace("/", ".")
    graph = grimp.build_graph("mass_gov", cache_dir=None)
    assert module in graph.modules
    assert not graph.find_modules_that_directly_import(module)


def _dangerous(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        case ast.ImportFrom(module=str(module)):
            return [module] if module.split(".")[0] in FORBIDDEN_MODULES else []
        case ast.Call(func=func, keywords=keywords):
            called = ast.unparse(func)
            bad = [called] if called in FORBIDDEN_NAMES | FORBIDDEN_CALLS else []
            return bad + [f"{called}({k.arg}=True)" for k in keywords if _unsafe_keyword(k)]
    return []


def _unsafe_keyword(keyword: ast.keyword) -> bool:
    on = not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
    return keyword.arg in ("shell", "trust_remote_code", "allow_pickle") and on


def test_the_check_for_dangerous_calls_sees_them() -> None:
    sample = "import pickle\nfrom dill import x\neval(s)\nsubprocess.run(c, shell=True)\ntorch.load(f)\nmodel.eval()\n"
    found = [what for node in ast.walk(ast.parse(sample)) for what in _dangerous(node)]
    assert sorted(found) == ["dill", "eval", "pickle", "subprocess.run(shell=True)", "torch.load"]


def test_no_open_ends_and_no_paths_of_somebodys_machine() -> None:
    found = []
    for path in tracked_files():
        if (ROOT / path).suffix not in TEXT or path == "tests/contract/test_house.py":
            continue
        for number, line in enumerate(read(path).splitlines(), start=1):
            if OPEN_ENDS.search(line) or MACHINE_PATHS.search(line):
                found.append(f"{path}:{number}: {line.strip()[:100]}")
    assert not found


@pytest.mark.parametrize(
    "line", ["# TODO later", "/" + "root/x", "see /" + "work/main/README.md", "/" + "home/someone/models"]
)
def test_the_check_for_open_ends_sees_them(line: str) -> None:
    assert OPEN_ENDS.search(line) or MACHINE_PATHS.search(line)
