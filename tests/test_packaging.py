"""The ways to install agree with each other."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def test_conda_and_pip_users_get_the_same_pins() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(item["pip"] for item in environment if isinstance(item, dict))
    assert sorted(pip) == sorted([*project["dependencies"], "-e ."])
    assert f"python{project['requires-python']}" in environment


def test_every_package_is_installed() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for top in ("flows", "data")
        for path in (ROOT / top).rglob("__init__.py")
    }
    assert set(packages) == found
