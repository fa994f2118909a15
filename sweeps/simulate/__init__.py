"""Searches on known learning curves: what a sampler and a stopping rule are worth, without training anything.

A surface of one's own is a ``Surface``, of a closed form or of a study's results; ``sweep simulate`` takes any.
"""

from sweeps.simulate.recorded import recorded
from sweeps.simulate.surface import Surface

__all__ = ["Surface", "recorded"]
