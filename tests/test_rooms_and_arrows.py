"""The house: imports go down only, pylti1p3 stays in its room, only doors commit, no import hides."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lti_tool"

# Lower number, lower floor; a module imports from its own floor or from below.
FLOORS = {
    "settings": 0,
    "database": 0,
    "logs": 0,
    "sealing": 1,
    "lti": 2,
    "conferencing": 2,
    "delivery": 2,
    "mail": 2,
    "practice_lms": 2,
    "bounces": 3,
    "classroom": 3,
    "jobs": 4,
    "pages": 4,
    "commands": 5,
    "__init__": 6,
}
# Rooms on one floor that do not look into each other.
APART = {"lti", "conferencing", "mail", "practice_lms"}
# Inside classroom, from below: a table names only tables below it.
CLASSROOM = [
    {"accounts", "guest_lists"},
    {"audit", "role_maps", "search"},
    {"plans"},
    {"courses"},
    {"account_settings", "copies", "enrolling", "placements"},
    {
        *("allotment", "answers", "batches", "directory", "finding", "invitations", "linking", "merging"),
        *("outcomes", "prospects", "rooms", "roster", "sessions", "unmerging", "wishes"),
    },
    {"reminders", "invited"},
    {"access", "batch_receipts", "carried_roles", "difference", "extracts", "history", "platforms"},
    {"receipts", "reconcile", "connecting", "role_changes", "verdicts"},
    {"drafts", "guests", "mass_invitations"},
    {"syncs"},
    {"erasing"},
    {"people"},
    {"bulk"},
    {"course_list", "moves", "privacy", "retention"},
    {"checkups", "doctor"},
]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        if relative.parts[0] == "migrations":
            continue
        yield ".".join(relative.with_suffix("").parts), path


def imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Every module of ours, and of others, that a file imports, by its full name."""
    package = path.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            start = ".".join(part for part in (base, node.module or "") if part)
            for name in node.names:
                yield f"{start}.{name.name}", node


def room_of(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "__init__"


@pytest.mark.parametrize(("name", "path"), [pytest.param(n, p, id=n) for n, p in modules()])
def test_a_module_imports_only_from_its_floor_or_below(name: str, path: Path) -> None:
    room = room_of(f"lti_tool.{name}")
    for imported, _ in imports(path):
        if not imported.startswith("lti_tool."):
            continue
        other = room_of(imported)
        if other == "__init__" and imported != "lti_tool.__version__":
            other = imported.split(".")[1]
        assert other == "__version__" or FLOORS[other] <= FLOORS[room], f"{name} imports {imported}"
        if room in APART:
            assert other == room or other not in APART, f"{name} imports {imported}, its neighbour"
        if room == "practice_lms":
            assert other == "practice_lms", f"{name} imports {imported}; it must stand alone"
        if room in ("jobs", "pages"):
            assert other == room or FLOORS[other] < FLOORS[room], f"{name} imports {imported}, another door"


def test_the_rules_of_the_product_look_down_only() -> None:
    level = {name: i for i, names in enumerate(CLASSROOM) for name in names}
    for name, path in modules():
        if not name.startswith("classroom."):
            continue
        own = name.split(".")[1]
        if own == "__init__":
            continue
        for imported, _ in imports(path):
            parts = imported.split(".")
            if parts[:2] == ["lti_tool", "classroom"] and len(parts) > 2 and parts[2] in level:
                assert level[parts[2]] <= level[own], f"{name} imports {imported}"
                assert parts[2] != own


def test_there_is_no_circle() -> None:
    known = {f"lti_tool.{name}": path for name, path in modules()}
    arrows: dict[str, set[str]] = {}
    for name, path in known.items():
        found = set()
        for imported, _ in imports(path):
            target = imported if imported in known else imported.rpartition(".")[0]
            if target in known and target != name:
                found.add(target)
        arrows[name] = found
    done: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " → ".join((*way, name))
        if name in done:
            return
        for following in arrows[name]:
            walk(following, (*way, name))
        done.add(name)

    for name in arrows:
        walk(name, ())


def test_pylti1p3_stays_in_lti() -> None:
    for name, path in modules():
        if not name.startswith("lti."):
            assert not [i for i, _ in imports(path) if i.startswith("pylti1p3")], name


def test_claim_addresses_stay_in_lti() -> None:
    for name, path in modules():
        if not name.startswith(("lti.", "practice_lms.")):
            assert "purl.imsglobal.org" not in path.read_text("utf-8"), name


def test_no_import_hides_in_a_function() -> None:
    for name, path in modules():
        tree = ast.parse(path.read_text("utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                hidden = [n for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom)]
                assert not hidden, f"{name}.{function.name}"


def test_only_the_doors_commit() -> None:
    doors = ("pages.", "commands", "jobs")
    for name, path in modules():
        if name.startswith(doors):
            continue
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "commit"
            and "session" in ast.unparse(node.func.value)
        ]
        assert not calls, name


def test_nothing_catches_everything() -> None:
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                assert caught not in ("Exception", "BaseException", "everything"), name


def test_roles_are_compared_only_where_rules_are() -> None:
    allowed = ("classroom.", "commands")
    for name, path in modules():
        if name.startswith(allowed) or name.startswith(("lti.", "practice_lms.")):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Compare):
                written = ast.unparse(node)
                assert "user.role" not in written, f"{name}: {written}"


def test_templates_hold_no_script_and_no_style() -> None:
    for path in sorted((PACKAGE.parent / "templates").rglob("*.html")):
        if path.parent.name == "mail":
            continue
        text = path.read_text("utf-8")
        assert ' style="' not in text, path
        assert " onclick=" not in text, path
        assert "<script>" not in text, path
