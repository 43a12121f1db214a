"""The pages of the docs run, their pictures have a script, and the site builds from the code."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import run_pages

import hemorrhage_tf as htf
from hemorrhage_tf.models import run_files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = run_pages.pages()
# What pages show but no test can run here: it installs, or needs a server or a cluster.
OTHER_PROGRAMS = {"pip", "docker", "kubectl", "tensorboard"}


def page_id(path: Path) -> str:
    return str(path.relative_to(DOCS))


@pytest.fixture(scope="session")
def sandbox(once):
    from sandbox import build_sandbox

    return once("docs-sandbox", build_sandbox)


@pytest.fixture
def folder(sandbox, tmp_path, monkeypatch):
    """A new folder with the data sets that pages use."""
    from sandbox import cache_of, enter_sandbox

    folder = enter_sandbox(sandbox, tmp_path / "page")
    monkeypatch.setenv("HEMORRHAGE_TF_CACHE", str(cache_of(folder)))
    return folder


class TestPages:
    @pytest.mark.slow
    @pytest.mark.parametrize("path", PAGES, ids=page_id)
    def test_a_page_prints_what_it_shows(self, path, folder):
        text = path.read_text()
        found = list(run_pages.differences(text, run_pages.run_page(text, folder)))
        assert not found, f"run docs/run_pages.py {path}\n" + "\n".join(found)

    def test_the_readme_prints_what_it_shows(self, shared, real_features, tmp_path, monkeypatch):
        from sandbox import enter_real_data

        monkeypatch.setenv("HEMORRHAGE_TF_CACHE", str(real_features))
        text = (ROOT / "README.md").read_text()
        now = run_pages.run_page(text, enter_real_data(shared, tmp_path / "page"))
        assert not list(run_pages.differences(text, now))

    def test_every_block_of_commands_is_one_that_runs(self):
        """An unmarked block would not be run, so it may only hold other programs."""
        for path in [DOCS / "index.md", *DOCS.glob("*/*.md")]:
            blocks = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.M | re.S)
            # A command that names a server is run by the tests of what it does.
            for block in [b for language, b in blocks if not language and "https://" not in b]:
                programs = {line.split()[0] for line in block.splitlines() if line.strip()}
                assert programs <= OTHER_PROGRAMS, f"{path}: {block}"

    def test_a_command_that_fails_is_an_error(self, tmp_path):
        page = "```sh\nhemorrhage-tf predict no_such_file.png\n```"
        with pytest.raises(run_pages.PageError, match="no_such_file.png"):
            run_pages.run_page(page, tmp_path)

    def test_a_session_that_prints_something_else_is_an_error(self, tmp_path):
        with pytest.raises(run_pages.PageError, match="Expected:"):
            run_pages.run_page("```pycon\n>>> 1 + 1\n3\n```", tmp_path)

    def test_output_is_written_below_its_command(self, tmp_path):
        page = "```console\n$ hemorrhage-tf --version\nold\n```\n"
        printed = f"hemorrhage-tf, version {htf.__version__}"
        assert run_pages.run_page(page, tmp_path) == page.replace("old", printed)

    def test_lines_that_a_page_leaves_out_stay_out(self):
        shown = ("first", "...", "last")
        assert run_pages.elide(["1", "2", "3", "4"], shown) == ["1", "...", "4"]

    def test_a_part_in_the_middle_is_found_by_its_first_line(self):
        printed = ["begin", "other", "metric", "0.98", "more", "end"]
        shown = ("begin", "...", "metric", "0.97", "...", "end")
        assert run_pages.elide(printed, shown) == ["begin", "...", "metric", "0.98", "...", "end"]

    @pytest.mark.parametrize(
        ("page", "run", "agree"),
        [
            ("AUC 0.950", "AUC  0.951", True),
            ("AUC 0.950", "AUC 0.890", False),
            ("45.1 MB", "45.3 MB", True),
            ("hemorrhage 0.9", "normal 0.9", False),
            ("1 of 20", "3 of 20", False),
        ],
    )
    def test_only_rounding_may_differ(self, page, run, agree):
        assert (not list(run_pages.differences(page, run))) == agree


class TestPictures:
    def test_every_picture_is_made_by_the_script(self):
        script = (DOCS / "draw_plots.py").read_text()
        functions = set(re.findall(r"^def (\w+)\(\) -> None:", script, re.M))
        used = set()
        for path in [ROOT / "README.md", *DOCS.rglob("*.md")]:
            used |= set(re.findall(r"!\[[^]]*\]\([./a-z]*images/(\w+)\.png\)", path.read_text()))
        made = {path.stem for path in (DOCS / "images").iterdir()}
        assert used <= made <= functions


class TestReference:
    def test_every_public_name_and_command_has_an_entry(self):
        pytest.importorskip("mkdocs", reason="needs the extra docs")
        import reference_pages

        pages = reference_pages.reference_pages().values()
        text = "".join([*pages, reference_pages.names_table()])
        for name in htf.__all__:
            assert name == "__version__" or f"htf.{name}" in text, name
        for name in reference_pages.command_names():
            assert f"# hemorrhage-tf {name}" in text

    def test_every_option_has_a_row(self):
        import reference_pages
        from test_docs import COMMANDS, options_of

        for name in COMMANDS:
            page = reference_pages.command_page(name.split()[0])
            for option in options_of(name).values():
                if option.name != "help":
                    assert any(f"`{flag}" in page or f", {flag}" in page for flag in option.opts)

    def test_every_file_of_a_run_folder_is_described(self):
        text = (DOCS / "reference" / "files.md").read_text()
        for name, file in vars(run_files).items():
            if name.endswith("_FILE"):
                assert f"`{file}`" in text, file

    def test_columns_are_those_that_are_written(self, fit_once):
        import reference_pages

        for file in ("split.csv", "predictions.csv", "history.csv"):
            header = (fit_once() / file).read_text().splitlines()[0].split(",")
            described = re.findall(r"`(\w+)`", reference_pages.columns_of(file))
            assert described[: len(header)] == header

    def test_a_run_of_folds_adds_a_column_of_each_repeat(self, fit_once):
        import reference_pages

        header = (fit_once(folds=2) / "split.csv").read_text().splitlines()[0].split(",")
        described = re.findall(r"`(\w+)`", reference_pages.columns_of("split.csv"))
        assert header == [*described, "repeat_1"]
        assert "`repeat_1`" in (DOCS / "reference" / "files.md").read_text()

    def test_every_field_of_the_metadata_is_described(self):
        from hemorrhage_tf.models.metadata import ModelMetadata

        text = ModelMetadata.__doc__ or ""
        for field in dataclasses.fields(ModelMetadata):
            assert re.search(rf"^    +{field.name}: ", text, re.M), field.name


class TestNotebook:
    @staticmethod
    def cells():
        nbformat = pytest.importorskip("nbformat", reason="needs the extra docs")
        return nbformat.read(DOCS / "tutorials" / "article.ipynb", as_version=4).cells

    def test_it_shows_no_slices_and_no_paths(self):
        text = (DOCS / "tutorials" / "article.ipynb").read_text()
        for place in (ROOT, ROOT.parent / "shared", tempfile.gettempdir()):
            assert str(place) not in text
        assert "data:image" not in text
        assert '"name": "stderr"' not in text

    @pytest.mark.slow
    def test_it_runs_on_phantoms(self, folder, monkeypatch):
        pytest.importorskip("nbclient", reason="needs the extra docs")
        import run_notebook

        monkeypatch.setenv("RESNET152_WEIGHTS", "none")
        assert "ROC AUC" in run_notebook.printed(run_notebook.run_notebook(folder / "head_ct"))

    def test_it_prints_what_it_shows(self, shared, real_features, monkeypatch):
        nbformat = pytest.importorskip("nbformat", reason="needs the extra docs")
        import run_notebook

        weights = shared / "weights" / "resnet152_conv4_imagenet.weights.h5"
        monkeypatch.setenv("RESNET152_WEIGHTS", str(weights))
        monkeypatch.setenv("HEMORRHAGE_TF_CACHE", str(real_features))
        counts = [cell.execution_count for cell in self.cells() if cell.cell_type == "code"]
        if not any(counts):
            pytest.skip("the notebook has no outputs; run docs/run_notebook.py")
        assert counts == list(range(1, len(counts) + 1)), "run docs/run_notebook.py"
        shown = run_notebook.printed(nbformat.read(run_notebook.NOTEBOOK, as_version=4))
        now = run_notebook.printed(run_notebook.run_notebook(shared / "head_ct"))
        assert not list(run_pages.differences(shown, now))


class TestSite:
    @pytest.fixture(scope="class")
    @classmethod
    def site(cls, once):
        pytest.importorskip("mkdocs", reason="needs the extra docs")

        def build(folder: Path) -> None:
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr

        return once("site", build)

    @pytest.mark.slow
    def test_no_page_loads_anything_from_a_network(self, site):
        for page in site.rglob("*.html"):
            loaded = re.findall(
                r"<(?:script|img|iframe)[^>]+src=[\"']?(https?:[^\"' >]+)|"
                r"<link[^>]+rel=[\"']?stylesheet[\"']?[^>]+href=[\"']?(https?:[^\"' >]+)",
                page.read_text(),
            )
            assert not loaded, f"{page}: {loaded}"

    @pytest.mark.slow
    def test_search_finds_an_option_without_a_server(self, site):
        """The index is a script that a page from the disk can load."""
        index = (site / "search" / "search_index.js").read_text()
        assert index.startswith("var __index = ")
        assert "--fine-tune-from" in index and "draw_phantom_scan" in index

    @pytest.mark.slow
    def test_the_search_works_from_the_disk(self, site):
        browser = shutil.which("chromium")
        if browser is None:
            pytest.skip("chromium is not installed")
        page = f"{(site / 'index.html').as_uri()}?q=intraparenchymal"
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
        done = subprocess.run(
            [browser, *options, "--allow-file-access-from-files=false", "--dump-dom", page],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        assert "md-search-result__link" in done.stdout
