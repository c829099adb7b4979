"""Frozen results: numbers only, one class a kind of answer. Views of them live in ``report``."""

from __future__ import annotations

from transferstats.arrays import FloatArray
from transferstats.results.base import COLUMNS, Result, tidy_frame, to_r_csv
from transferstats.results.calibration import NullCalibration
from transferstats.results.comparison import Comparison, MetaAnalysis
from transferstats.results.decay import (
    CurveFit,
    DecayComparison,
    DecayComparisons,
    DecayCurve,
    DecayFit,
    DecayFits,
)
from transferstats.results.description import Description
from transferstats.results.estimate import Estimate
from transferstats.results.estimates import AVERAGE, Estimates
from transferstats.results.evidence import JUDGED, LIMITED_GAP, VERDICTS, Claim, DatasetEvidence, Evidence
from transferstats.results.learning_curve import LearningCurve
from transferstats.results.null import NullTest, SharedLensTest
from transferstats.results.path import TrainingPath
from transferstats.results.permutation import QapResult
from transferstats.results.planning import StudyPlan, StudySize
from transferstats.results.regression import RegressionFit
from transferstats.results.relevance import RelevanceTest, Verdict
from transferstats.results.reliability import Coefficient, MixedSlope, Reliability
from transferstats.results.subjects import SubjectComparison, SubjectSummary

__all__ = [
    "AVERAGE",
    "COLUMNS",
    "JUDGED",
    "LIMITED_GAP",
    "VERDICTS",
    "Claim",
    "Coefficient",
    "Comparison",
    "CurveFit",
    "DatasetEvidence",
    "DecayComparison",
    "DecayComparisons",
    "DecayCurve",
    "DecayFit",
    "DecayFits",
    "Description",
    "Estimate",
    "Estimates",
    "Evidence",
    "FloatArray",
    "LearningCurve",
    "MetaAnalysis",
    "MixedSlope",
    "NullCalibration",
    "NullTest",
    "QapResult",
    "RegressionFit",
    "RelevanceTest",
    "Reliability",
    "Result",
    "SharedLensTest",
    "StudyPlan",
    "StudySize",
    "SubjectComparison",
    "SubjectSummary",
    "TrainingPath",
    "Verdict",
    "tidy_frame",
    "to_r_csv",
]
