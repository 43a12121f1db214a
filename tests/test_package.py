from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hemorrhage_tf as htf

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "hemorrhage_tf"


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


def test_every_module_has_a_docstring():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_import_of_all_modules():
    for path in PACKAGE.rglob("*.py"):
        if path.name not in ("__main__.py",):
            parts = path.relative_to(ROOT).with_suffix("").parts
            importlib.import_module(".".join(parts).removesuffix(".__init__"))
