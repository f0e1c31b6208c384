"""The walls of the house (docs/architecture.md): what may import what, and how large a room may be."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FLOORS = ("models", "stages", "cluster", "pipeline")  # each imports itself and those before it
LONGEST_MODULE = 420  # lines

COMMANDS = sorted(path.stem for path in (ROOT / "pipeline").glob("*.py") if path.stem != "__init__")

# The rooms of a package, lowest first: one imports what lies below it, and nothing beside it. A module that
# lies flat is a room of its own.
ROOMS = {
    "stages": (
        {"errors", "augmentation", "metrics", "journal", "execution"},
        {"recipe", "storage", "parallel", "devices"},
        {"dataset", "measurement", "job"},
        {"load", "training", "sources", "embedded", "claim"},
        {"tasks", "shard", "paper"},
        {"train", "evaluate", "ledger"},
        {"trial", "report"},
    ),
    "pipeline": ({"papers", "tracking"}, {"engine"}, {"flows"}, set(COMMANDS)),
}


def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for floor in FLOORS
        for path in sorted((ROOT / floor).rglob("*.py"))
    }


MODULES = modules()


def imports(path: Path, *, at_import_only: bool = False) -> Iterator[str]:
    """Dotted names that a module imports; of ``from a import b`` both ``a`` and ``a.b``."""
    tree = ast.parse(path.read_text())
    nodes = _outside_functions(tree) if at_import_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative name"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs when a module is imported: neither functions nor what only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _outside_functions(node)


def own_imports(name: str) -> set[str]:
    """The project's modules that a module imports, also within functions."""
    found = {target for target in imports(MODULES[name]) if target in MODULES} - {name}
    # `from a.b import c` where c is a module means c alone; the package's own file runs anyway.
    return {t for t in found if not any(o != t and o.startswith(f"{t}.") for o in found)}


def floor(name: str) -> int:
    """The floor of its package that a module lies on."""
    package, room = name.split(".")[:2]
    return next(i for i, rooms in enumerate(ROOMS[package]) if room in rooms)


def test_dependencies_point_one_way() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, path in MODULES.items()
        for target in imports(path)
        if target.split(".")[0] in FLOORS
        and FLOORS.index(target.split(".")[0]) > FLOORS.index(name.split(".")[0])
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("library", "allowed"), [("ray", "cluster."), ("mlflow", "pipeline.tracking.")]
)
def test_a_library_has_one_room(library: str, allowed: str) -> None:
    wrong = [
        name
        for name, path in MODULES.items()
        if not name.startswith(allowed)
        and any(target.split(".")[0] == library for target in imports(path))
    ]
    assert not wrong


def test_networks_know_nothing_of_the_rest() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, path in MODULES.items()
        if name.startswith("models.")
        for target in imports(path)
        if target.split(".")[0] in {"pyarrow", "webdataset", "tyro", "rich", "jinja2", "matplotlib"}
    ]
    assert not wrong


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_a_floor(package: str) -> None:
    rooms = {name.split(".")[1] for name in MODULES if name.startswith(f"{package}.")}
    assert rooms == set().union(*ROOMS[package])


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_downwards(package: str) -> None:
    wrong = [
        f"{name} imports {target}"
        for name in MODULES
        if name.startswith(f"{package}.")
        for target in own_imports(name)
        if target.startswith(f"{package}.")
        and target.split(".")[1] != name.split(".")[1]
        and floor(target) >= floor(name)
    ]
    assert not wrong


def test_no_circle_of_imports() -> None:
    arrows = {name: own_imports(name) for name in MODULES}
    circles: list[str] = []
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        state[name] = 1
        for target in sorted(arrows[name]):
            if state.get(target) == 1:
                circles.append(" -> ".join((*trail[trail.index(target) :], target)))
            elif target not in state:
                visit(target, (*trail, target))
        state[name] = 2

    for name in MODULES:
        if name not in state:
            visit(name, (name,))
    assert not circles


def test_nobody_imports_a_command() -> None:
    commands = {f"pipeline.{stem}" for stem in COMMANDS}
    wrong = [
        f"{name} imports {target}"
        for name in MODULES
        for target in own_imports(name)
        if target in commands
    ]
    assert not wrong


@pytest.mark.parametrize("module", [f"pipeline.{stem}" for stem in COMMANDS])
def test_commands_import_nothing_slow(module: str) -> None:
    slow = "torch", "ray", "mlflow", "torchvision", "timm", "matplotlib"
    code = f"import sys, {module}; print(*(m for m in {slow!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_what_passes_between_stages_needs_no_torch() -> None:
    flat = [name for name in MODULES if name.count(".") == 1 and name.startswith("stages.")]
    wrong = [
        name
        for name in flat
        if any(t.split(".")[0] == "torch" for t in imports(MODULES[name], at_import_only=True))
    ]
    assert not wrong


def test_modules_are_short() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name: count for name, count in lines.items() if count > LONGEST_MODULE} == {}
