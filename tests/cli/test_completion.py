"""Shell completion, as the README sets it up."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from hemorrhage_tf.cli.main import main

COMMAND = Path(sys.executable).with_name("hemorrhage-tf")
VARIABLE = "_HEMORRHAGE_TF_COMPLETE"


def complete(monkeypatch, shell: str, *words: str) -> str:
    """Return the completions of the last word, as the script of a shell asks for them."""
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    # bash and zsh pass the number of the word, fish passes the word.
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))
    completion = get_completion_class(shell)
    return completion(main, {}, "hemorrhage-tf", VARIABLE).complete()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completes_commands_options_and_choices(shell, monkeypatch):
    assert "evaluate" in complete(monkeypatch, shell, "hemorrhage-tf", "ev")
    assert "--skip-invalid" in complete(monkeypatch, shell, "hemorrhage-tf", "predict", "--sk")
    assert "lbfgs" in complete(monkeypatch, shell, "hemorrhage-tf", "fit", "--solver", "l")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.slow
@pytest.mark.skipif(not COMMAND.exists(), reason="the command is not installed")
def test_the_line_in_the_readme_loads_in_the_shell(shell):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    source = f"{VARIABLE}={shell}_source {COMMAND}"
    script = {
        "bash": f'eval "$({source})" && complete -p hemorrhage-tf',
        "zsh": f'autoload -U compinit; compinit -u; eval "$({source})"; '
        "echo $_comps[hemorrhage-tf]",
        "fish": f"{source} | source; complete -c hemorrhage-tf",
    }[shell]
    done = subprocess.run([program, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "_hemorrhage_tf_completion" in done.stdout
