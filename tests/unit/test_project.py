"""What is said twice is compared: pages and settings, Procfile and compose, names and sizes and their limits."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from cjtasks.celery import QUEUES
from cjtasks.cli import app
from cjtasks.dev.processes import read_procfile
from cjtasks.domain.states import ARROWS
from cjtasks.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted(path for room in ("cjtasks", "consumers") for path in (ROOT / room).rglob("*.py"))

MOST_LINES = 300
LONGEST_FUNCTION = 40
BANNED = {"manager", "processor", "handler", "coordinator", "orchestrator", "helper", "utils", "util"}

# Written in two parts, so that this file itself holds no address.
REGISTRIES = re.compile(
    "|".join(
        f"{host}\\.{domain}"
        for host, domain in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            (r"repo1?\.maven", r"(apache\.)?org"),
        )
    )
    + r"|https?://\S+/simple\b"
)


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _files() -> list[Path]:
    """Return what git tracks, and what it would track if it were added."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S603  Constant.
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


# --- pages ---------------------------------------------------------------------------------------------------------


def _settings_page() -> str:
    spec = spec_from_file_location("generate_settings", ROOT / "docs" / "generate_settings.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.page())


def test_the_page_of_settings_says_what_the_settings_say() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == _settings_page(), "run `make docs`"


def test_the_page_of_states_has_every_arrow_with_its_reason_and_no_other() -> None:
    page = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")
    section = page.split("## Every arrow", 1)[1].split("##", 1)[0]
    rows = re.findall(r"^\| ([A-Z_]+) \| ([A-Z_]+) \| (.+) \|$", section, re.MULTILINE)
    assert sorted(rows) == sorted((source.value, target.value, reason) for (source, target), reason in ARROWS.items())


def test_the_readme_shows_the_eager_test_as_it_is() -> None:
    test = (ROOT / "tests" / "integration" / "test_eager_batch.py").read_text(encoding="utf-8")
    assert f"```python\n{test}```\n" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_a_page_names_only_make_targets_that_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"^make ([a-z]+)", _code(page), re.MULTILINE)
    assert set(named) <= targets


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_a_page_names_only_commands_that_exist(page: Path) -> None:
    known = _commands()
    named = re.findall(r"^cjtasks ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", _code(page), re.MULTILINE)
    unknown = [f"{group} {name}".strip() for group, name in named if not {group, f"{group} {name}"} & known]
    assert unknown == []


def _code(page: Path) -> str:
    """Return what a page shows as code: its blocks, and each inline piece on a line of its own."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", text)
    return "\n".join([*blocks, *inline])


def _commands() -> set[str]:
    """Return every command that runs by itself, such as `demo` or `batch list`."""
    commands: set[str] = set()
    for name, command in typer.main.get_group(app).commands.items():
        below = getattr(command, "commands", None)
        commands |= {f"{name} {sub}" for sub in below} if below else {name}
    return commands


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_a_page_links_only_to_files_that_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_page_for_operators_explains_every_log_line() -> None:
    page = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    lines = {line for path in SOURCES if "dev" not in path.parts for line in _log_lines(path)}
    assert len(lines) > 10
    assert [line for line in sorted(lines) if f"`{line}`" not in page] == []


def _log_lines(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log")), args=[ast.Constant(value=str(line))]):
                yield line


# --- processes -----------------------------------------------------------------------------------------------------


def _compose() -> str:
    return (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def _compose_commands() -> dict[str, str]:
    """Return what the shell of each service runs, with compose's doubled dollar signs read as it reads them."""
    services = _compose().split("\nservices:\n", 1)[1]
    found = re.findall(r"^  ([a-z-]+):\n(?:(?:    .*)?\n)*?    command: (\[.+\])$", services, re.MULTILINE)
    shells = {name: json.loads(command) for name, command in found}
    return {name: command[2].replace("$$", "$") for name, command in shells.items() if command[:2] == ["/bin/sh", "-c"]}


def test_compose_runs_every_process_of_the_procfile_by_the_same_command() -> None:
    commands = _compose_commands()
    expected = {process.name: process.command for process in read_procfile(ROOT / "Procfile")}
    assert {name: commands.get(name) for name in expected} == expected


def test_compose_passes_every_setting_on_and_no_other() -> None:
    environment = _compose().split("x-environment:", 1)[1].split("\n\n", 1)[0]
    passed = re.findall(r"^  (CJ_\w+):", environment, re.MULTILINE)
    assert sorted(passed) == sorted(f"CJ_{name}" for name in Settings.model_fields)


def test_every_queue_is_served_by_a_process_of_the_procfile_and_no_other_is() -> None:
    commands = " ".join(process.command for process in read_procfile(ROOT / "Procfile"))
    served = [queue for queues in re.findall(r"-Q (\S+)", commands) for queue in queues.split(",")]
    assert sorted(served) == sorted(QUEUES)


# --- requirements --------------------------------------------------------------------------------------------------


def _pins(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if line.strip() and not line.strip().startswith("#")}


def _names(requirements: set[str] | list[str]) -> set[str]:
    return {re.split(r"[\s=<>!~;\[]", line, maxsplit=1)[0].lower() for line in requirements}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_a_requirement_file_holds_pins_and_no_place_to_get_them_from(name: str) -> None:
    assert [pin for pin in _pins(name) if not re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", pin)] == []
    assert "/" not in (ROOT / name).read_text(encoding="utf-8")


def test_the_pins_cover_what_the_project_asks_for_and_development_has_the_same_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime, development = _pins("requirements.txt"), _pins("requirements-dev.txt")
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    assert _names(project["dependencies"]) <= _names(runtime), "run `make requirements`"
    assert _names(extras) - {"cjtasks"} <= _names(development), "run `make requirements`"
    assert runtime <= development


def test_no_file_names_a_package_registry() -> None:
    texts = {_relative(path): path.read_bytes().decode("utf-8", "replace") for path in _files()}
    assert {name: found.group() for name, text in texts.items() if (found := REGISTRIES.search(text))} == {}


# --- code ----------------------------------------------------------------------------------------------------------


def test_modules_stay_small() -> None:
    lengths = {_relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    large = {name: length for name, length in lengths.items() if length >= MOST_LINES}
    assert large == {}


def test_functions_stay_small() -> None:
    lengths = {f"{_relative(path)}:{f.name}": _length(f) for path in SOURCES for f in _functions(path)}
    large = {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION}
    assert large == {}


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines from `def` to its end, its docstring left out."""
    lines = _span(function)
    first = function.body[0]
    return lines - _span(first) if ast.get_docstring(function) is not None else lines


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_names_are_terms_of_the_field() -> None:
    named = {f"{_relative(path)}: {name}" for path in SOURCES for name in _own_names(path) if _words(name) & BANNED}
    assert named == set()


def _words(name: str) -> set[str]:
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)
    return {word.lower().removesuffix("s") for word in words} | {word.lower() for word in words}


def _own_names(path: Path) -> Iterator[str]:
    """Yield the names of modules, classes, functions and parameters; a local variable may carry a library's term."""
    yield from path.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name):
                yield name
