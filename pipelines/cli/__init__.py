"""The commands `synth` and `detect`."""
