"""The layout that keeps pymilter importable: one namespace, and nothing that shadows the C module `milter`."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("adapters", "cli", "core", "lab", "milter", "policy")


def run_python(*arguments, cwd):
    """A fresh interpreter without pytest's paths: what a user's shell in that folder gets."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_milter_is_the_c_module_here():
    assert importlib.import_module("milter").__file__.endswith(".so")


@pytest.mark.parametrize("folder", [".", *SOURCE_ROOTS])
def test_milter_is_the_c_module_from_every_folder(folder):
    answer = run_python("-c", "import milter, Milter; print(milter.__file__)", cwd=ROOT / folder)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip().endswith(".so")


def test_no_package_shadows_milter_or_closes_the_namespace():
    for root in SOURCE_ROOTS:
        assert not (ROOT / root / "__init__.py").exists()
        assert not (ROOT / root / "deliverypools" / "__init__.py").exists()


def test_no_tests_below_milter():
    """pytest would put a namespace package `milter` into sys.modules (pytest issue 13257)."""
    found = [path for path in (ROOT / "milter").rglob("*") if path.name == "tests" or path.match("test_*.py")]
    assert found == []


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_every_root_holds_one_package_of_the_namespace(root):
    packages = [path.parent.name for path in (ROOT / root / "deliverypools").glob("*/__init__.py")]
    assert packages == [root]
    package = importlib.import_module(f"deliverypools.{root}")
    assert Path(package.__file__).parent == ROOT / root / "deliverypools" / root


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_the_installed_project_is_importable_from_anywhere(root, tmp_path):
    answer = run_python("-c", f"import deliverypools.{root} as m; print(m.__file__)", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr


def test_pyproject_names_every_root():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    roots = list(SOURCE_ROOTS)
    assert project["hatch"]["build"]["dev-mode-dirs"] == roots
    assert project["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"{root}/deliverypools" for root in roots]
    # What bench/ invents, the tests use too.
    assert project["pytest"]["ini_options"]["pythonpath"] == [*roots, "bench"]
    assert project["mypy"]["files"] == [*roots, "bench"]
    assert all(f"$MYPY_CONFIG_FILE_DIR/{root}:" in project["mypy"]["mypy_path"] for root in roots)


def test_the_postfix_examples_and_sources_are_not_ignored_by_git():
    paths = [
        str(path.relative_to(ROOT))
        for folder in ("postfix-examples", "tests", *SOURCE_ROOTS)
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    if not (ROOT / ".git").exists():
        pytest.skip("not a git work tree")
    answer = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        cwd=ROOT,
        input="\n".join(paths),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.returncode, answer.stdout) == (1, ""), answer.stderr


def test_lock_files_name_no_registry_and_no_machine():
    locks = sorted(ROOT.glob("requirements*.lock"))
    assert [lock.name for lock in locks] == ["requirements-build.lock", "requirements-dev.lock", "requirements.lock"]
    for lock in locks:
        text = lock.read_text(encoding="utf-8")
        assert "://" not in text
        assert "--index" not in text
        assert "--find-links" not in text
        assert all("==" in line for line in text.splitlines() if line[:1].isalnum())


def test_installed_libraries_are_the_locked_ones():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for name in ("cryptography", "dnspython", "idna", "limits", "pydantic", "pymilter"):
        assert f"{name}=={importlib.metadata.version(name)}" in text
