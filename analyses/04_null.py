"""4. Is it more than one shared lens would show, and enough to matter?

python analyses/04_null.py [STORE] [SMALLEST]

Needs null replicates in the store (step 1 plans them). SMALLEST is the smallest penalty of interest in nats: a
scientific statement, yours to make. 0.05 nats change the next token's probability by 5 %.
"""

import sys

import transferstats as ts

store = sys.argv[1] if len(sys.argv) > 1 else "runs/embedded"
smallest = float(sys.argv[2]) if len(sys.argv) > 2 else 0.05
grid = ts.read_grid(store)

# The penalty beyond what the same pipeline finds in a world where one lens is exactly right for every layer.
null = ts.null_test(grid)
print(ts.sentence(null))

# Above the smallest penalty of interest, within it, or undecided: one verdict a dataset, and on their average.
relevance = ts.relevance_test(null, smallest=smallest)
print(ts.sentence(relevance))
columns = ["dataset", "estimate", "conf_low", "conf_high", "verdict"]
print(relevance.tidy()[columns].to_string(index=False))

# Does one lens serve every layer? Simultaneous over layers.
shared = ts.shared_lens_test(grid, smallest=smallest)
print(ts.sentence(shared))
print(shared.tidy()[["term", *columns]].to_string(index=False))
