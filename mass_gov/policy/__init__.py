"""What is allowed: pure functions over records. No I/O, no clock, no model.

`load_policy` reads one policy file; `judge` turns a change's facts into gate results; `decide` turns those into a
decision; `judge_and_decide` does both, and `rederive` does them again from a recorded change, which is how an auditor
checks a decision without a model; `consistent` says whether a change agrees with itself.
"""

from mass_gov.policy.consistency import consistent
from mass_gov.policy.decision import decide
from mass_gov.policy.document import Policy, load_policy
from mass_gov.policy.judgement import Facts, judge, judge_and_decide, judge_regression, rederive, regression_passed

__all__ = [
    "Facts",
    "Policy",
    "consistent",
    "decide",
    "judge",
    "judge_and_decide",
    "judge_regression",
    "load_policy",
    "rederive",
    "regression_passed",
]
