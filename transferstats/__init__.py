"""transferstats: error bars for transfer claims in interpretability.

A lens trained on one layer of a network is used on another: how well does it work, how sure are we, and what
does that show? The names below are the whole public entrance; they load what they need on first use, so
``import transferstats`` needs neither torch nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES: dict[str, str] = {
    "Bootstrap": "transferstats.stats.bootstrap",
    "Cell": "transferstats.engine",
    "Encoding": "transferstats.lens.language",
    "EvaluationPlan": "transferstats.lens.study",
    "FitPlan": "transferstats.lens.plan",
    "LanguageSource": "transferstats.lens.language",
    "Machine": "transferstats.lens.study",
    "Preprocessing": "transferstats.lens.preprocessing",
    "Store": "transferstats.engine",
    "TransferGrid": "transferstats.grid",
    "VisionSource": "transferstats.lens.vision",
    "augment": "transferstats.augmentation",
    "bootstrap_estimate": "transferstats.stats.bootstrap",
    "cell_states": "transferstats.engine",
    "cells": "transferstats.lens.study",
    "cite": "transferstats.reporting",
    "compare": "transferstats.stats.comparison",
    "compare_decay": "transferstats.stats.decay_selection",
    "compare_instances": "transferstats.stats.architectures",
    "compare_shares": "transferstats.stats.architectures",
    "compare_subjects": "transferstats.stats.subjects",
    "crossed_estimate": "transferstats.stats.crossed",
    "describe": "transferstats.stats.description",
    "estimate": "transferstats.stats.estimation",
    "evaluate": "transferstats.evidence",
    "figure": "transferstats.reporting",
    "fit_decay": "transferstats.stats.decay",
    "known_truth_cells": "transferstats.lens.examples",
    "learning_curve": "transferstats.stats.learning_curve",
    "lens_cells": "transferstats.lens.ready",
    "local_pool": "transferstats.engine",
    "meta_analysis": "transferstats.stats.comparison",
    "mixed_slope": "transferstats.stats.mixed",
    "null_calibration": "transferstats.stats.calibration",
    "null_test": "transferstats.stats.null",
    "numbers": "transferstats.reporting",
    "order_test": "transferstats.stats.permutation",
    "paired_null_estimate": "transferstats.stats.null",
    "plan_study": "transferstats.stats.planning",
    "qap": "transferstats.stats.permutation",
    "read_grid": "transferstats.readers",
    "regress": "transferstats.stats.regression",
    "relevance_test": "transferstats.stats.relevance",
    "reliability": "transferstats.stats.reliability",
    "report": "transferstats.reporting",
    "sentence": "transferstats.reporting",
    "shared_lens_test": "transferstats.stats.null",
    "simulate_grid": "transferstats.simulation",
    "size_study": "transferstats.stats.planning",
    "sweep": "transferstats.engine",
    "table": "transferstats.reporting",
    "training_path": "transferstats.stats.path",
    "vision_cells": "transferstats.lens.vision_study",
    "with_path": "transferstats.lens.path",
    "write_lenses": "transferstats.lens.export",
}


def __getattr__(name: str) -> Any:
    """Load a public name on first use (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'transferstats' has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name in ("torch", "transformers", "safetensors"):
            from transferstats.errors import DependencyError

            raise DependencyError(
                f"transferstats.{name} needs {error.name}: pip install 'transferstats[lens]'"
            ) from error
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names, loaded or not."""
    return sorted(["__version__", *_HOMES])


if TYPE_CHECKING:  # for type checkers and editors, which cannot see what is loaded on first use
    from transferstats.augmentation import augment as augment
    from transferstats.engine import Cell as Cell
    from transferstats.engine import Store as Store
    from transferstats.engine import cell_states as cell_states
    from transferstats.engine import local_pool as local_pool
    from transferstats.engine import sweep as sweep
    from transferstats.evidence import evaluate as evaluate
    from transferstats.grid import TransferGrid as TransferGrid
    from transferstats.lens.examples import known_truth_cells as known_truth_cells
    from transferstats.lens.export import write_lenses as write_lenses
    from transferstats.lens.language import Encoding as Encoding
    from transferstats.lens.language import LanguageSource as LanguageSource
    from transferstats.lens.path import with_path as with_path
    from transferstats.lens.plan import FitPlan as FitPlan
    from transferstats.lens.preprocessing import Preprocessing as Preprocessing
    from transferstats.lens.ready import lens_cells as lens_cells
    from transferstats.lens.study import EvaluationPlan as EvaluationPlan
    from transferstats.lens.study import Machine as Machine
    from transferstats.lens.study import cells as cells
    from transferstats.lens.vision import VisionSource as VisionSource
    from transferstats.lens.vision_study import vision_cells as vision_cells
    from transferstats.readers import read_grid as read_grid
    from transferstats.reporting import cite as cite
    from transferstats.reporting import figure as figure
    from transferstats.reporting import numbers as numbers
    from transferstats.reporting import report as report
    from transferstats.reporting import sentence as sentence
    from transferstats.reporting import table as table
    from transferstats.simulation import simulate_grid as simulate_grid
    from transferstats.stats.architectures import compare_instances as compare_instances
    from transferstats.stats.architectures import compare_shares as compare_shares
    from transferstats.stats.bootstrap import Bootstrap as Bootstrap
    from transferstats.stats.bootstrap import bootstrap_estimate as bootstrap_estimate
    from transferstats.stats.calibration import null_calibration as null_calibration
    from transferstats.stats.comparison import compare as compare
    from transferstats.stats.comparison import meta_analysis as meta_analysis
    from transferstats.stats.crossed import crossed_estimate as crossed_estimate
    from transferstats.stats.decay import fit_decay as fit_decay
    from transferstats.stats.decay_selection import compare_decay as compare_decay
    from transferstats.stats.description import describe as describe
    from transferstats.stats.estimation import estimate as estimate
    from transferstats.stats.learning_curve import learning_curve as learning_curve
    from transferstats.stats.mixed import mixed_slope as mixed_slope
    from transferstats.stats.null import null_test as null_test
    from transferstats.stats.null import paired_null_estimate as paired_null_estimate
    from transferstats.stats.null import shared_lens_test as shared_lens_test
    from transferstats.stats.path import training_path as training_path
    from transferstats.stats.permutation import order_test as order_test
    from transferstats.stats.permutation import qap as qap
    from transferstats.stats.planning import plan_study as plan_study
    from transferstats.stats.planning import size_study as size_study
    from transferstats.stats.regression import regress as regress
    from transferstats.stats.relevance import relevance_test as relevance_test
    from transferstats.stats.reliability import reliability as reliability
    from transferstats.stats.subjects import compare_subjects as compare_subjects
else:
    __all__ = __dir__()
