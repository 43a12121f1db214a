"""`python -m hemorrhage_tf`: the same as the `hemorrhage-tf` command."""

from hemorrhage_tf.cli.main import main

main(prog_name="python -m hemorrhage_tf")
