"""``python -m pipelines.cli`` is the command `synth`."""

from pipelines.cli import run_synth

run_synth()
