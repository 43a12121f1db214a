import ast
from pathlib import Path

import hemorrhage_tf.imaging

FOLDER = Path(hemorrhage_tf.imaging.__file__).parent
SLOW_PACKAGES = {"pydicom", "gdcm", "nibabel", "tensorflow", "keras"}


def imported_on_import(tree):
    """Return the packages that a module imports at once, except for type checking."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def test_slow_packages_are_imported_late():
    files = sorted(FOLDER.rglob("*.py"))
    assert len(files) > 20
    for path in files:
        packages = set(imported_on_import(ast.parse(path.read_text())))
        assert not packages & SLOW_PACKAGES, path.name
