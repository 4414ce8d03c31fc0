"""``python -m pipelines.cli`` is the command `synth`."""

from pipelines.cli.synth import main

main(prog_name="synth")
