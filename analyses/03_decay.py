"""3. Do penalties grow with layer distance, and how?

python analyses/03_decay.py [STORE]
"""

import sys

import transferstats as ts

store = sys.argv[1] if len(sys.argv) > 1 else "runs/embedded"
grid = ts.read_grid(store)

# The slope asks nothing about the shape of the curve.
print(ts.sentence(ts.estimate(grid, "slope")))

# A curve that levels off: height, rate, and the distance at which half of the height is reached.
decay = ts.fit_decay(grid, family="saturating")
print(decay.tidy()[["dataset", "term", "estimate", "conf_low", "conf_high", "unit"]].to_string(index=False))

# Few layers tell few shapes apart, which the comparison says in words.
print(ts.compare_decay(grid).conclusion)

# The cells that the curve describes worst.
cells = ts.augment(decay, grid).sort_values("resid", key=abs, ascending=False)
print(cells.head(8)[["dataset", "source", "target", "penalty", "fitted", "resid"]].to_string(index=False))

# Distance and direction together.
print(ts.table(ts.regress("penalty ~ log(distance) * direction", grid)))
