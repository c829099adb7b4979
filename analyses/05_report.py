"""5. All standard claims, and the report: a page, figures, tables, numbers for a paper, and its references.

python analyses/05_report.py [STORE] [FOLDER] [SMALLEST]

The paper in analyses/paper reads its numbers from the folder that this step writes.
"""

import sys

import transferstats as ts

store = sys.argv[1] if len(sys.argv) > 1 else "runs/embedded"
folder = sys.argv[2] if len(sys.argv) > 2 else "report"
smallest = float(sys.argv[3]) if len(sys.argv) > 3 else 0.05  # nats, see step 4

evidence = ts.evaluate(ts.read_grid(store), smallest=smallest)
print(ts.sentence(evidence))
for claim in evidence.claims:
    print(f"{claim.key} {claim.dataset}: {claim.verdict} ({claim.reason})")

numbers = ts.numbers(evidence)
print(f"mean penalty {numbers['TransferMean']} {numbers['TransferMeanCI']} {evidence.unit}")
print(f"report: {ts.report(evidence, folder)}")
