"""Messages of the libraries that a user can do nothing about; they are hidden on import."""

import logging
import warnings

for _pattern in (
    r".*does not have many workers",
    r".*isinstance\(treespec, LeafSpec\)",
    r".*(is not empty|in eval mode at the start)",
    r".*'set_vital' is deprecated",
    r".*WeightAveraging callback, but loading a checkpoint",
    r"LightningCLI's args parameter",
    r".*smaller than the logging interval",  # `RunLog` chooses a shorter one
):
    warnings.filterwarnings("ignore", message=_pattern)
warnings.filterwarnings("ignore", category=DeprecationWarning, module="jsonargparse")


USELESS = ("💡 Tip", "TPU available", "Trainer already configured with model summary")


def _useful(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(USELESS)


logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_useful)
