"""Synthesis of infrared small-target data: arrays in, arrays out."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sirst-synth")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
