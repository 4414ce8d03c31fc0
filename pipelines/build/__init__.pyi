from .config import BuildConfig
from .run import build

__all__ = ["BuildConfig", "build"]
