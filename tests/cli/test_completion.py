"""Shell completion, as the README sets it up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("hemorrhage-tf")
pytestmark = pytest.mark.skipif(not COMMAND.exists(), reason="the command is not installed")
VARIABLE = "_HEMORRHAGE_TF_COMPLETE"


def complete(shell: str, *words: str) -> str:
    """Ask for completions of the last word, as the script of a shell does."""
    line = " ".join(words)
    environment = {
        VARIABLE: f"{shell}_complete",
        "COMP_WORDS": line,
        # bash and zsh say which word it is, fish says the word.
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1),
    }
    done = subprocess.run(
        [COMMAND], env=os.environ | environment, capture_output=True, text=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completes_commands_options_and_choices(shell):
    assert "evaluate" in complete(shell, "hemorrhage-tf", "ev")
    assert "--skip-invalid" in complete(shell, "hemorrhage-tf", "predict", "--sk")
    assert "lbfgs" in complete(shell, "hemorrhage-tf", "fit", "--solver", "l")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
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
