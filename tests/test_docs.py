"""README, docs, CONTRIBUTING, CHANGELOG, `--help` and docstrings agree with the code."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import hemorrhage_tf as htf
from hemorrhage_tf.cli.main import main
from hemorrhage_tf.models.backbones import BACKBONES
from hemorrhage_tf.pipeline.augmentation import AUGMENTATIONS
from hemorrhage_tf.training.settings import FitSettings

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/*.md")]
)
WIDTH = 80
SLOW_EXAMPLES = ("Audit", "Export", "benchmark", "fit")


def commands(group: click.Group = main, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{prefix}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")


COMMANDS = dict(commands())


def options_of(name: str) -> dict[str, click.Option]:
    """Return the options of a command, without the titles of option groups."""
    params = COMMANDS[name].params
    return {p.name: p for p in params if isinstance(p, click.Option) and p.name and p.expose_value}


def help_of(name: str) -> str:
    result = CliRunner().invoke(main, [*name.split(), "--help"], terminal_width=WIDTH)
    assert result.exit_code == 0
    return result.output


class TestHelp:
    @pytest.mark.parametrize("name", ["", *COMMANDS])
    def test_every_line_fits_the_terminal(self, name):
        lines = help_of(name).splitlines()
        assert not [line for line in lines if len(line) > WIDTH]

    @pytest.mark.parametrize("name", ["", "cache"])
    def test_no_summary_is_cut_off(self, name):
        assert "..." not in help_of(name).split("Commands:")[1].split("Examples:")[0]

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_and_option_is_described(self, name):
        assert COMMANDS[name].short_help.endswith(".")
        for option in options_of(name).values():
            assert option.help, f"{name} {option.opts}"
            # A sentence, or the accepted values.
            assert option.help[0].isupper() or option.help.startswith(("imagenet", "png")), (
                option.help
            )

    @pytest.mark.parametrize("name", main.list_commands(click.Context(main)))
    def test_every_command_has_an_example_and_a_row_in_the_readme(self, name):
        assert f"hemorrhage-tf {name}" in help_of(name).split("Examples:")[1]
        assert re.search(rf"^\| `{name} ", README, re.MULTILINE)

    def test_every_setting_of_a_fit_is_an_option_with_the_same_default(self):
        options = options_of("fit")
        assert FitSettings.__dataclass_fields__.keys() <= options.keys()
        for name, field in FitSettings.__dataclass_fields__.items():
            default = options[name].to_info_dict()["default"]
            if name == "augment":
                assert default == ",".join(field.default)
            elif name != "backbone":  # its default depends on DATA
                assert default == field.default, name

    def test_options_of_fit_are_in_groups(self):
        text = help_of("fit")
        groups = ["Data:", "Model:", "Training:", "Evaluation:", "Output:", "Machine:"]
        places = [text.index(f"  {group}") for group in groups]
        assert places == sorted(places)

    def test_verbs_have_the_options_of_their_commands(self):
        for name in ("fit", "evaluate", "predict", "benchmark", "audit", "phantoms", "recalibrate"):
            options = options_of(name).keys() - {"as_json", "as_csv", "strict"}
            parameters = set(inspect.signature(getattr(htf, name)).parameters)
            parameters |= set(FitSettings.__dataclass_fields__) if name == "fit" else set()
            assert options <= parameters, name


class TestExamples:
    """The examples in the docstrings of all public names run and print what they show."""

    @pytest.fixture
    def folder(self, tmp_path, kaggle_once, fit_once, head, write_series, monkeypatch):
        shutil.copytree(kaggle_once, tmp_path / "head_ct")
        shutil.copy(kaggle_once / "head_ct" / "head_ct" / "001.png", tmp_path / "slice.png")
        shutil.copytree(fit_once(), tmp_path / "runs" / "first")
        write_series(tmp_path / "series", [head(index) for index in range(5)])
        monkeypatch.chdir(tmp_path)
        return tmp_path

    @pytest.mark.parametrize(
        "name",
        [
            # These train, export or measure; the other examples are quick.
            pytest.param(name, marks=pytest.mark.slow if name in SLOW_EXAMPLES else ())
            for name in htf.__all__
            if name != "__version__"
        ],
    )
    def test_docstring_example(self, name, folder):
        public = getattr(htf, name)
        if not callable(public):  # a constant has no docstring of its own
            return
        text = public.__doc__
        assert "Example:" in text, f"{name} has no example"
        globs = {"__name__": name}
        test = doctest.DocTestParser().get_doctest(text, globs, name, None, None)
        assert test.examples, f"{name} has no example that runs"
        printed: list[str] = []
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        runner = doctest.DocTestRunner(verbose=False, optionflags=flags)
        runner.run(test, out=printed.append)
        assert not printed, "".join(printed)


class TestDocuments:
    def test_the_readme_is_a_front_page(self):
        assert len(README.splitlines()) <= 150
        for image in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
            assert (ROOT / image).is_file(), image

    def test_readme_and_ci_have_the_two_set_up_commands(self):
        assert "\npip install . && hemorrhage-tf fit\n" in README
        assert "\npip install '.[test]' && pytest\n" in README
        assert "\npip install '.[test]' && pytest\n" in (ROOT / ".ci" / "run").read_text()

    def test_the_readme_has_the_line_for_each_shell(self):
        for shell in ("bash", "zsh", "fish"):
            assert f"_HEMORRHAGE_TF_COMPLETE={shell}_source hemorrhage-tf" in README

    def test_backbones_and_augmentations_are_documented(self):
        for page, names in (
            ("how-to/backbones.md", BACKBONES),
            ("concepts/training.md", AUGMENTATIONS),
        ):
            text = (ROOT / "docs" / page).read_text()
            for name in names:
                assert f"`{name}`" in text, name

    @pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
    def test_links_lead_somewhere(self, path):
        for target in re.findall(r"\]\((?!http)([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), target

    @pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
    def test_commands_and_options_exist(self, path):
        if path.name == "CHANGELOG.md":  # it names options of the past
            return
        for line in re.findall(r"hemorrhage-tf ([a-z][^`\n|]*)", path.read_text()):
            words = line.split()
            name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
            if name not in COMMANDS:
                continue  # prose
            known = {opt for p in COMMANDS[name].params for opt in (*p.opts, *p.secondary_opts)}
            known |= {"--help", "-h"}
            used = {word.split("=")[0] for word in words if re.fullmatch(r"--[a-z0-9-]+=?.*", word)}
            assert used <= known, f"{line}: {used - known}"

    def test_every_option_in_prose_exists(self):
        known = {
            opt
            for command in COMMANDS.values()
            for p in command.params
            for opt in (*p.opts, *p.secondary_opts)
        }
        for path in [*(ROOT / "docs").glob("*/*.md"), ROOT / "docs" / "evaluation.md"]:
            for option in re.findall(r"`(--[a-z0-9-]+)", path.read_text()):
                assert option in known or option in ("--logdir",), f"{path.name}: {option}"

    def test_python_blocks_use_public_names(self):
        for path in DOCUMENTS:
            for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
                for node in ast.walk(ast.parse(block)):
                    if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "htf":
                        assert node.attr in htf.__all__, f"{path.name}: {node.attr}"

    def test_contributing_lists_the_rooms_that_import_linter_checks(self):
        text = (ROOT / "CONTRIBUTING.md").read_text()
        rooms = re.findall(r"^\| `(\w+)/` ", text, re.MULTILINE)
        config = tomllib.loads((ROOT / "pyproject.toml").read_text())
        assert rooms == config["tool"]["importlinter"]["contracts"][0]["layers"]
        folders = {path.parent.name for path in (ROOT / "hemorrhage_tf").glob("*/__init__.py")}
        assert set(rooms) == folders

    def test_the_glossary_has_about_25_lines(self):
        text = (ROOT / "CONTRIBUTING.md").read_text().split("## Glossary")[1].split("\n## ")[0]
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert 20 <= len(rows) - 1 <= 27

    def test_no_room_hides_a_public_verb(self):
        for path in (ROOT / "hemorrhage_tf").iterdir():
            assert path.stem not in htf.__all__
        for name in htf.__all__:
            assert getattr(importlib.import_module("hemorrhage_tf"), name) is not None

    def test_the_changelog_has_the_installed_version(self):
        assert f"## [{htf.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_source_files_need_no_words_of_the_past():
    """The words that the glossary replaced do not come back."""
    past = (
        r"\b(canonical head|called hemorrhage|skip_bad|--skip-bad|--flips|likeness|suspicions?)\b"
    )
    for path in [*(ROOT / "hemorrhage_tf").rglob("*.py"), *DOCUMENTS]:
        if path.name not in ("CHANGELOG.md", "decisions.md"):
            assert not re.search(past, path.read_text()), path
