"""The layout's rules, checked on the syntax trees: who may import whom, and what no module may do."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("guest", "lab", "machine", "netbackend", "vmapp", "vmm")
FORBIDDEN = {
    "guest": ("lab", "vmapp", "vmm"),
    "lab": (),
    "machine": ("guest", "lab", "netbackend", "vmapp", "vmm"),
    "netbackend": ("guest", "lab", "machine.lance", "vmapp", "vmm"),
    "vmapp": ("guest", "lab", "vmm"),
    "vmm": ("guest", "lab", "netbackend", "vmapp"),
}
NET_TOOLS = {"brctl", "bridge", "ifconfig", "ip", "route", "tc", "tunctl"}
LAUNCHERS = {"Popen", "call", "check_call", "check_output", "create_subprocess_exec", "popen", "run", "system"}
LAUNCHERS |= {name for name in dir(__import__("os")) if name.startswith(("exec", "spawn", "posix_spawn"))}
MAX_LINES = 300


def modules(package: str) -> list[Path]:
    """The package's source files."""
    return sorted((ROOT / package).rglob("*.py"))


ALL_MODULES = [path for package in PACKAGES for path in modules(package)]


def label(path: Path) -> str:
    """The path from the root, as a test id."""
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST, path: Path) -> set[str]:
    """Absolute dotted names of all that a module imports, lazily or not: `from a import b` gives a and a.b."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, path)
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and callee(node) in {"__import__", "import_module"}:
            found |= set(words(node)[:1])
    return found


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """The module that a `from` names, relative ones resolved against the importing file's package."""
    parent = path.relative_to(ROOT).parent.parts
    base = parent[: len(parent) - node.level + 1] if node.level else ()
    return ".".join((*base, node.module) if node.module else base)


def callee(call: ast.Call) -> str:
    """The last part of the name that is called."""
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def words(call: ast.Call) -> list[str]:
    """The constant strings at the start of a call's arguments, lists unpacked and command lines split."""
    groups = (arg.elts if isinstance(arg, ast.List | ast.Tuple) else [arg] for arg in call.args)
    nodes = (node for group in groups for node in group)
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [word for text in texts for word in text.split()]


def breaches(package: str, names: set[str]) -> set[str]:
    """Those of the imported names that the package must not know."""
    return {name for name in names for bad in FORBIDDEN[package] if name == bad or name.startswith(f"{bad}.")}


def shelled_tools(tree: ast.AST) -> set[str]:
    """Network tools that a module starts as programs."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and callee(node) in LAUNCHERS)
    return {Path(word).name for call in calls for word in words(call)[:2]} & NET_TOOLS


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_respect_layers(package: str) -> None:
    """Guest, vmm and vmapp meet only in machine; each package imports only what its layer may know."""
    bad = {label(p): b for p in modules(package) if (b := breaches(package, imports(ast.parse(p.read_text()), p)))}
    assert not bad


@pytest.mark.parametrize("path", ALL_MODULES, ids=label)
def test_no_wildcard_imports(path: Path) -> None:
    """Every name in a module can be traced to the import that brought it."""
    froms = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    assert not [node.lineno for node in froms if any(alias.name == "*" for alias in node.names)]


@pytest.mark.parametrize("path", ALL_MODULES, ids=label)
def test_no_network_tools_by_subprocess(path: Path) -> None:
    """Networks are made over netlink, never by running ip, tc or brctl."""
    assert not shelled_tools(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", ALL_MODULES, ids=label)
def test_public_names_are_declared(path: Path) -> None:
    """A module that defines anything says in one literal `__all__` what of it is public (the linter sorts it)."""
    body = ast.parse(path.read_text()).body
    if path.name == "__main__.py" or all(isinstance(node, ast.Expr) for node in body):
        return
    values = [n.value for n in body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    assert len(values) == 1
    assert isinstance(ast.literal_eval(values[0]), list)


@pytest.mark.parametrize("path", ALL_MODULES, ids=label)
def test_modules_stay_short(path: Path) -> None:
    """No source file outgrows what can be read in one sitting."""
    length = path.read_text().count("\n")
    assert length <= MAX_LINES


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_is_a_package(package: str) -> None:
    """Packages are found by the build through their __init__.py; a folder without one would not be installed."""
    folders = {path.parent for path in modules(package)}
    assert folders
    assert not [label(folder) for folder in folders if not (folder / "__init__.py").is_file()]


def test_checks_see_what_they_forbid() -> None:
    """The rules above are not vacuous: a planted breach of each is found."""
    path = ROOT / "vmm" / "planted.py"
    tree = ast.parse("from ..netbackend import tap\nimport vmapp.lance\nsubprocess.run(['/sbin/ip', 'link'])")
    assert breaches("vmm", imports(tree, path)) == {"netbackend", "netbackend.tap", "vmapp.lance"}
    assert shelled_tools(tree) == {"ip"}
    assert imports(ast.parse("from . import ports"), path) == {"vmm", "vmm.ports"}
    assert breaches("machine", imports(ast.parse("def f():\n    from lab import cli"), path)) == {"lab", "lab.cli"}
    assert breaches("guest", imports(ast.parse("importlib.import_module('vmm.dispatch')"), path)) == {"vmm.dispatch"}
    assert breaches("netbackend", imports(ast.parse("from machine import lance"), path)) == {"machine.lance"}
