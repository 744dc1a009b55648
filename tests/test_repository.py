"""What must be true of the repository itself: documents and code agree, and nothing in it belongs to one machine."""

import ast
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import reference

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked() -> list[Path]:
    """Files that git knows or would take, so that none is forgotten; without git, all but hidden ones."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(asked, cwd=ROOT, capture_output=True, check=True).stdout
        paths = [ROOT / os.fsdecode(name) for name in listed.split(b"\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not any(map(_is_made, path.relative_to(ROOT).parts))]
    return [path for path in paths if path.is_file()]


def _is_made(name: str) -> bool:
    return name.startswith(".") or name in ("__pycache__", "mainstem-data")


def texts() -> Iterator[tuple[Path, str]]:
    for path in tracked():
        if "vendor" in path.parts:
            continue  # not ours, and taken byte for byte
        try:
            yield path.relative_to(ROOT), path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # a picture, or captured bytes


def found(pattern: str) -> list[str]:
    """Every place where the pattern matches."""
    matcher = re.compile(pattern)
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if matcher.search(line)
    ]


# Nothing belongs to one machine


def test_no_file_names_a_path_of_one_machine() -> None:
    """A clone works wherever it lies."""
    homes = "home|root|Users|work"
    assert found(rf"(?<![\w.<}}\]-])/({homes})/[\w.]") == []


def test_no_file_names_the_host_of_a_package_registry() -> None:
    """Whoever installs chooses the registry, by the configuration of pip or uv."""
    hosts = ("pypi", "pythonhosted", "npmjs", "crates", "maven", "golang", "debian")
    assert (
        found(
            rf"https?://[\w.-]*\b({'|'.join(hosts)})\.(org|io|com)\b|\b(files|proxy|registry|deb)\.({'|'.join(hosts)})\."
        )
        == []
    )


def test_every_pinned_package_has_a_hash() -> None:
    """What is installed is what was locked, byte for byte."""
    for lock in sorted((ROOT / "requirements").glob("*.lock")):
        pins = re.split(r"\n(?=\S)", lock.read_text())
        bare = [pin.split()[0] for pin in pins if not pin.startswith("#") and "--hash=sha256:" not in pin]
        assert bare == [], lock.name


def test_locks_agree_with_each_other() -> None:
    """Development and benchmarks run on the very versions that serve."""
    serving = pins("run")
    for name in ("dev", "bench"):
        others = pins(name)
        assert serving.items() <= others.items(), name


def test_pandas_is_nowhere() -> None:
    """pyarrow imports pandas when it is installed, and stalls for a second or two on the first array."""
    assert "pandas" not in pins("run") | pins("dev") | pins("bench")


def pins(name: str) -> dict[str, str]:
    lock = (ROOT / "requirements" / f"{name}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==(\S+)", lock, re.MULTILINE))


# The house


def test_the_licence_is_there_in_full() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert PROJECT["project"]["license"] == "Apache-2.0"


def test_every_module_says_what_it_is() -> None:
    """The first line of a module is a sentence that stands alone."""
    silent = []
    for path in [*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        text = path.read_text()
        if text.strip() and not ast.get_docstring(ast.parse(text)):
            silent.append(str(path.relative_to(ROOT)))
    assert silent == []


def test_no_module_is_named_for_what_it_is_not_about() -> None:
    vague = {"utils.py", "util.py", "helpers.py", "misc.py", "common.py"}
    assert [path for path in tracked() if path.name in vague] == []


def test_nothing_is_left_to_do() -> None:
    words = "TO" + "DO|FIX" + "ME|XX" + "X"
    assert found(rf"\b({words})\b") == []


def test_continuous_integration_can_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# Documents


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of a document names a file that is there, and a heading that it has."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(document.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        page = (document.parent / name).resolve() if name else document
        if not page.exists() or (anchor and anchor not in anchors(page)):
            broken.append(target)
    assert broken == []


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(page: Path) -> set[str]:
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted(reference.PAGES.glob("*.md")), ids=lambda page: page.name)
def test_reference_pages_are_what_the_code_says(page: Path) -> None:
    """`make reference` brings them up to date."""
    assert page.read_text() == reference.rendered(page.read_text(), reference.SOURCES), "run `make reference`"


def test_every_part_of_the_reference_is_on_a_page() -> None:
    """Settings, commands, routes, errors and metrics: nothing that the code knows is missing."""
    pages = "".join(page.read_text() for page in reference.PAGES.glob("*.md"))
    assert [name for name in reference.SOURCES if f"<!-- generated: {name} -->" not in pages] == []


def test_every_document_can_be_reached_from_the_readme() -> None:
    """By links from page to page; a link to a folder leads to all pages in it."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        for link in re.findall(r"\]\(([^)\s#:]+)(?:#[^)]*)?\)", page.read_text()):
            target = (page.parent / link).resolve()
            waiting += target.glob("*.md") if target.is_dir() else [target] if target.suffix == ".md" else []
    assert [str(page.relative_to(ROOT)) for page in documents() if page not in reached] == []


def test_every_dependency_says_what_it_saves_and_how_to_leave_it() -> None:
    """One entry for each direct dependency, and none for what is gone."""
    groups = PROJECT["dependency-groups"].values()
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    groups = [*groups, *PROJECT["project"]["optional-dependencies"].values()]
    wanted += [line for group in groups for line in group]
    names = {re.match(r"[A-Za-z0-9_.-]+", line)[0].lower() for line in wanted}  # type: ignore[index]  # each has a name
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text()
    assert set(re.findall(r"^- \*\*([\w.-]+)\*\*", page, re.MULTILINE)) == names


def test_every_command_of_make_is_explained() -> None:
    """`make` alone lists all of them."""
    makefile = (ROOT / "Makefile").read_text()
    public = set(re.findall(r"^\.PHONY: (\S+)", makefile, re.MULTILINE))
    assert set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE)) == public


def test_the_architecture_draws_the_rooms_that_stand() -> None:
    """Every module and package at the top of src/mainstem is in the drawing, and nothing else is."""
    drawing = (ROOT / "ARCHITECTURE.md").read_text().partition("src/mainstem/\n")[2].partition("```")[0]
    drawn = {
        name.rstrip("/")
        for line in drawing.splitlines()
        if re.match("[├└]", line)
        for name in re.findall(r"[a-z_]+(?:\.py|/)", re.split(" {3,}", line.partition("── ")[2])[0])
    }
    rooms = {path.name for path in (ROOT / "src" / "mainstem").iterdir() if path.suffix in ("", ".py")}
    assert drawn == {name for name in rooms if not name.startswith("__")}


def test_the_changelog_has_a_place_for_the_next_change() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
