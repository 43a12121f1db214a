from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import hemorrhage_tf as htf
from hemorrhage_tf.cli.main import main
from hemorrhage_tf.models.backbones import BACKBONES
from hemorrhage_tf.pipeline.augmentation import AUGMENTATIONS
from hemorrhage_tf.training.settings import FitSettings

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hemorrhage_tf"

# From the bottom to the top: a module may import only from rooms before its own, or from its own.
ROOMS = (
    "version",
    "errors",
    "event_log",
    "stopping",
    "whole_files",
    "verb_progress",
    "data",
    "models",
    "training",
    "evaluation",
    "inference",
    "documents",
    "exporters",
    "api",
    "printing",
    "cli",
    "__main__",
)


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "version"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_imports_go_downward(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hemorrhage_tf"):
            names = [node.module]
            if node.module == "hemorrhage_tf":
                names = [f"hemorrhage_tf.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.startswith("hemorrhage_tf")]
        for name in names:
            assert ROOMS.index(_room(name)) <= ROOMS.index(room), f"{path.name} imports {name}"


def test_evaluation_knows_no_model_and_no_training():
    for path in (PACKAGE / "evaluation").glob("*.py"):
        assert not re.search(r"hemorrhage_tf\.(models|training|inference)", path.read_text())


def test_only_augmentation_imports_keras_cv():
    users = {path.name for path in PACKAGE.rglob("*.py") if "import keras_cv" in path.read_text()}
    assert users == {"augmentation.py"}


@pytest.mark.parametrize("name", htf.__all__)
def test_every_public_name_is_there(name):
    assert getattr(htf, name) is not None
    assert name in dir(htf)


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        htf.nothing  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import hemorrhage_tf",
        "import hemorrhage_tf; hemorrhage_tf.read_manifest, hemorrhage_tf.FitSettings",
        "from hemorrhage_tf.cli.main import main; main(['--help'], standalone_mode=False)",
        "from hemorrhage_tf.cli.main import main; main(['fit', '--help'], standalone_mode=False)",
    ],
)
def test_start_up_imports_no_tensorflow(code):
    code += "\nimport sys; heavy = {'tensorflow', 'keras', 'keras_cv', 'sklearn', 'scipy'}"
    code += "\nheavy |= {'pydicom', 'nibabel', 'gdcm'}"
    code += "\nassert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_python_dash_m_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "hemorrhage_tf", "--version"], capture_output=True, text=True
    )
    assert done.stdout.strip() == f"hemorrhage-tf, version {htf.__version__}"


@pytest.mark.parametrize("name", list(main.commands))
def test_every_command_has_help_an_example_and_a_place_in_the_readme(name):
    readme = (ROOT / "README.md").read_text()
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert f"hemorrhage-tf {name}" in result.output.split("Examples:")[1]
    assert f"hemorrhage-tf {name}" in readme
    assert re.search(rf"^\| `{name} ", readme, re.MULTILINE)


def test_every_option_of_fit_has_help_and_every_setting_an_option():
    options = {p.name: p for p in main.commands["fit"].params if p.param_type_name == "option"}
    assert all(option.help for option in options.values())
    assert FitSettings.__dataclass_fields__.keys() <= options.keys()


@pytest.mark.parametrize("name", list(BACKBONES))
def test_readme_names_every_backbone(name):
    assert f"`{name}`" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_readme_names_every_augmentation(name):
    assert f"`{name}`" in (ROOT / "README.md").read_text()


def test_readme_and_ci_give_the_two_set_up_commands():
    readme = (ROOT / "README.md").read_text()
    assert "\npip install . && hemorrhage-tf fit\n" in readme
    assert "\npip install '.[test]' && pytest\n" in readme
    assert "\npip install '.[test]' && pytest\n" in (ROOT / ".ci" / "run").read_text()


def test_changelog_has_the_version_that_is_installed():
    assert f"## [{htf.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_readme_python_examples_use_public_names():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "htf":
                assert node.attr in htf.__all__


def test_links_in_the_documents_lead_somewhere():
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"\]\((?!http)([^)#]+)", document.read_text()):
            assert (ROOT / target).exists(), f"{document.name}: {target}"


def test_every_module_says_what_lives_in_it():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_import_of_all_modules():
    for path in PACKAGE.rglob("*.py"):
        if path.name not in ("__main__.py",):
            parts = path.relative_to(ROOT).with_suffix("").parts
            importlib.import_module(".".join(parts).removesuffix(".__init__"))
