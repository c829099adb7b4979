"""2. How large are transfer penalties, and how sure are we? Intervals for new seeds and new documents.

python analyses/02_estimate.py [STORE]
"""

import sys

import transferstats as ts

store = sys.argv[1] if len(sys.argv) > 1 else "runs/embedded"
grid = ts.read_grid(store)

# The mean penalty of every dataset, and their average over these datasets as fixed strata.
mean = ts.estimate(grid, "mean")
print(ts.sentence(mean))
print(ts.table(mean))

# Which of the two directions is worse, and whether that could be chance.
print(ts.sentence(ts.estimate(grid, "asymmetry")))

# Where the uncertainty comes from: more seeds, or more documents?
print(mean.tidy()[["dataset", "std_error", "share_seeds", "share_units"]].to_string(index=False))

# The same interval by resampling seeds and documents. It agrees, and costs more.
bootstrap = ts.estimate(grid, "mean", method=ts.Bootstrap(replicates=2000, rng=7))
print(ts.table(bootstrap))

# What a larger study of the same kind would show.
plan = ts.plan_study(grid, seeds=[3, 5, 10], units=[100, 300, 1000], smallest=0.05)
print(plan.tidy()[["n_seeds", "n_units", "half_width", "power_exceeds", "power_within"]].to_string(index=False))
