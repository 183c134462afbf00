"""robovae: probabilistic eyes for robots. Camera frames in, beliefs (mu, sigma) out."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("robovae")
except PackageNotFoundError:  # a bare checkout on sys.path, never installed
    __version__ = "0.0.0+checkout"
