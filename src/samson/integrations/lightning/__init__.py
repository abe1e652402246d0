"""Lightning: sharpness-aware steps in automatic and in manual optimisation, and their statistics in the log.

`SharpnessAwareModule` is for automatic optimisation; `ManualAscent` accumulates batches. In a manual optimisation of
your own use the closure form, `self.optimizers().step(closure)`: Lightning hands the optimizer a closure in any case,
an empty one if you give none, and after `with optimizer.perturbed(...)` that would leave it without a gradient.

Only the package `lightning` is meant (`import lightning`), not the older `pytorch_lightning`.
"""

from samson.integrations import missing

try:
    import lightning.pytorch
except ImportError as error:
    raise missing("lightning") from error

from samson.integrations.lightning._automatic import SharpnessAwareModule
from samson.integrations.lightning._manual import ManualAscent
from samson.integrations.lightning._monitor import AscentMonitor

__all__ = ["AscentMonitor", "ManualAscent", "SharpnessAwareModule"]
