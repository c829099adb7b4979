"""What a penalty says that is more than all that lenses gain over the prior: one rule for statistics and views."""

from __future__ import annotations

from transferstats.results.estimate import Estimate

NOTHING = "worse than knowing nothing"
"""What is said of a lens whose penalty is more than lenses gain over the prior."""


def worse_than_prior(share: Estimate) -> str:
    """What a penalty as a share of the gain says in words where it is beyond 1 (100 %); "" up to there.

    Own losses weigh alike in mean penalty and gain, so beyond 1 the mean transferred loss is above the prior's.
    """
    if not float(share.estimate) > 1:
        return ""
    doubt = ", though the interval includes 100 %" if float(share.conf_low) <= 1 else ""
    return f"on average a transferred lens is {NOTHING} (than the prior){doubt}"
