"""References of the methods that a result used, as BibTeX. Each entry was checked against a published source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import singledispatch

from transferstats.reporting.pictures import decay_fits
from transferstats.results import (
    Claim,
    DatasetEvidence,
    Estimate,
    Estimates,
    Evidence,
    NullTest,
    RelevanceTest,
    Result,
)
from transferstats.results.decay import DecayComparison, DecayComparisons, DecayFit, DecayFits
from transferstats.results.permutation import QapResult
from transferstats.results.reliability import MixedSlope, Reliability

BIBLIOGRAPHY: Mapping[str, str] = {
    "belrose2023": """@misc{belrose2023,
  author = {Belrose, Nora and Ostrovsky, Igor and McKinney, Lev and Furman, Zach and Smith, Logan and
            Halawi, Danny and Biderman, Stella and Steinhardt, Jacob},
  title = {Eliciting Latent Predictions from Transformers with the Tuned Lens},
  year = {2023},
  eprint = {2303.08112},
  archivePrefix = {arXiv}
}""",
    "nostalgebraist2020": """@misc{nostalgebraist2020,
  author = {{nostalgebraist}},
  title = {interpreting {GPT}: the logit lens},
  year = {2020},
  howpublished = {LessWrong},
  url = {https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru/interpreting-gpt-the-logit-lens}
}""",
    "martens2015": """@inproceedings{martens2015,
  author = {Martens, James and Grosse, Roger},
  title = {Optimizing Neural Networks with {Kronecker}-factored Approximate Curvature},
  booktitle = {Proceedings of the 32nd International Conference on Machine Learning},
  pages = {2408--2417},
  year = {2015},
  url = {https://proceedings.mlr.press/v37/martens15.html}
}""",
    "owen2007": """@article{owen2007,
  author = {Owen, Art B.},
  title = {The pigeonhole bootstrap},
  journal = {The Annals of Applied Statistics},
  volume = {1},
  number = {2},
  pages = {386--411},
  year = {2007},
  doi = {10.1214/07-AOAS122}
}""",
    "schuett2023": """@article{schuett2023,
  author = {Sch{\\"u}tt, Heiko H. and Kipnis, Alexander D. and Diedrichsen, J{\\"o}rn and Kriegeskorte, Nikolaus},
  title = {Statistical inference on representational geometries},
  journal = {eLife},
  volume = {12},
  pages = {e82566},
  year = {2023},
  doi = {10.7554/eLife.82566}
}""",
    "diciccio1996": """@article{diciccio1996,
  author = {DiCiccio, Thomas J. and Efron, Bradley},
  title = {Bootstrap confidence intervals},
  journal = {Statistical Science},
  volume = {11},
  number = {3},
  pages = {189--228},
  year = {1996},
  doi = {10.1214/ss/1032280214}
}""",
    "schuirmann1987": """@article{schuirmann1987,
  author = {Schuirmann, Donald J.},
  title = {A comparison of the two one-sided tests procedure and the power approach for assessing the equivalence
           of average bioavailability},
  journal = {Journal of Pharmacokinetics and Biopharmaceutics},
  volume = {15},
  number = {6},
  pages = {657--680},
  year = {1987},
  doi = {10.1007/BF01068419}
}""",
    "holm1979": """@article{holm1979,
  author = {Holm, Sture},
  title = {A simple sequentially rejective multiple test procedure},
  journal = {Scandinavian Journal of Statistics},
  volume = {6},
  pages = {65--70},
  year = {1979}
}""",
    "golub1973": """@article{golub1973,
  author = {Golub, Gene H. and Pereyra, Victor},
  title = {The differentiation of pseudo-inverses and nonlinear least squares problems whose variables separate},
  journal = {SIAM Journal on Numerical Analysis},
  volume = {10},
  number = {2},
  pages = {413--432},
  year = {1973},
  doi = {10.1137/0710036}
}""",
    "hurvich1989": """@article{hurvich1989,
  author = {Hurvich, Clifford M. and Tsai, Chih-Ling},
  title = {Regression and time series model selection in small samples},
  journal = {Biometrika},
  volume = {76},
  number = {2},
  pages = {297--307},
  year = {1989},
  doi = {10.1093/biomet/76.2.297}
}""",
    "mcgraw1996": """@article{mcgraw1996,
  author = {McGraw, Kenneth O. and Wong, S. P.},
  title = {Forming inferences about some intraclass correlation coefficients},
  journal = {Psychological Methods},
  volume = {1},
  number = {1},
  pages = {30--46},
  year = {1996},
  doi = {10.1037/1082-989X.1.1.30}
}""",
    "vallat2018": """@article{vallat2018,
  author = {Vallat, Raphael},
  title = {Pingouin: statistics in {Python}},
  journal = {Journal of Open Source Software},
  volume = {3},
  number = {31},
  pages = {1026},
  year = {2018},
  doi = {10.21105/joss.01026}
}""",
    "seabold2010": """@inproceedings{seabold2010,
  author = {Seabold, Skipper and Perktold, Josef},
  title = {Statsmodels: Econometric and Statistical Modeling with {Python}},
  booktitle = {Proceedings of the 9th Python in Science Conference},
  pages = {92--96},
  year = {2010},
  doi = {10.25080/Majora-92bf1922-011}
}""",
    "dekker2007": """@article{dekker2007,
  author = {Dekker, David and Krackhardt, David and Snijders, Tom A. B.},
  title = {Sensitivity of {MRQAP} tests to collinearity and autocorrelation conditions},
  journal = {Psychometrika},
  volume = {72},
  number = {4},
  pages = {563--581},
  year = {2007},
  doi = {10.1007/s11336-007-9016-1}
}""",
    "wu1986": """@article{wu1986,
  author = {Wu, C. F. J.},
  title = {Jackknife, bootstrap and other resampling methods in regression analysis},
  journal = {The Annals of Statistics},
  volume = {14},
  number = {4},
  pages = {1261--1295},
  year = {1986},
  doi = {10.1214/aos/1176350142}
}""",
    "kline2012": """@article{kline2012,
  author = {Kline, Patrick and Santos, Andres},
  title = {A score based approach to wild bootstrap inference},
  journal = {Journal of Econometric Methods},
  volume = {1},
  number = {1},
  pages = {23--41},
  year = {2012},
  doi = {10.1515/2156-6674.1006}
}""",
}
"""BibTeX entry by key."""

SEPARABLE = frozenset({"power", "saturating", "michaelis_menten"})
"""Families fitted by variable projection."""


@singledispatch
def cite(x: object) -> str:
    """References of the methods used in a result, as BibTeX text.

    Raises
    ------
    TypeError: x is not a result.

    Examples
    --------
    >>> import transferstats as ts
    >>> grid = ts.simulate_grid(n_seeds=4, n_units=40, rng=1).grid
    >>> ts.cite(ts.estimate(grid)).split("{")[0]
    '@article'
    """
    raise TypeError(f"no references for {type(x).__name__}; pass a result of transferstats")


@cite.register(Result)
@cite.register(DatasetEvidence)
def _result(x: Result | DatasetEvidence) -> str:
    used = set(keys(x))
    return "\n\n".join(entry for key, entry in BIBLIOGRAPHY.items() if key in used) + "\n" if used else ""


@singledispatch
def keys(x: object) -> Iterable[str]:
    """Bibliography keys of the methods used in a result; none for objects that are not results."""
    return ()


@keys.register
def _estimate(x: Estimate) -> Iterable[str]:
    yield from ("owen2007", "schuett2023")
    if x.replicates.size:
        yield "diciccio1996"


@keys.register
def _estimates(x: Estimates) -> Iterable[str]:
    return keys(x.headline)


@keys.register
def _relevance(x: RelevanceTest) -> Iterable[str]:
    yield "schuirmann1987"
    yield from keys(x.estimates[-1])


@keys.register
def _null_test(x: NullTest) -> Iterable[str]:
    yield from ("wu1986", "kline2012")
    yield from keys(x.excess)


@keys.register
def _claim(x: Claim) -> Iterable[str]:
    if x.smallest is not None:
        yield "schuirmann1987"
    yield "holm1979"
    yield from keys(x.estimate)


@keys.register
def _decay_fit(x: DecayFit) -> Iterable[str]:
    if x.family in SEPARABLE:
        yield "golub1973"
    yield from ("owen2007", "schuett2023")


@keys.register
def _decay_fits(x: DecayFits) -> Iterable[str]:
    return keys(x.fits[0])


@keys.register(DecayComparison)
@keys.register(DecayComparisons)
def _comparison(x: DecayComparison | DecayComparisons) -> Iterable[str]:
    return ("hurvich1989",)


@keys.register
def _qap(x: QapResult) -> Iterable[str]:
    return ("dekker2007",)


@keys.register
def _reliability(x: Reliability) -> Iterable[str]:
    return ("mcgraw1996", "vallat2018")


@keys.register
def _mixed(x: MixedSlope) -> Iterable[str]:
    return ("seabold2010",)


@keys.register
def _dataset(x: DatasetEvidence) -> Iterable[str]:
    yield from keys(x.summary)
    yield from keys(x.comparison)
    for fit in decay_fits(x).values():
        yield from keys(fit)
    for extra in x.extras.values():
        yield from keys(extra)
    if "logit" in x.references:
        yield "nostalgebraist2020"


@keys.register
def _evidence(x: Evidence) -> Iterable[str]:
    yield "belrose2023"
    for claim in x.claims:
        yield from keys(claim)
    for data in x.datasets:
        yield from keys(data)
    # Certificates exist only for lenses that this package trained, by natural gradient.
    if len(x.certificates) and "steps" in x.certificates:
        yield "martens2015"
