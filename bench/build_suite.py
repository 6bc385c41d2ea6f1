"""Print a regression suite that ships, built again from its seed and the shipped models: `build_suite.py NAME`."""

from __future__ import annotations

import sys

from mass_gov.flows.base_suite import PLANS, core_suite, planned_suite
from mass_gov.mass.reference_model import reference_folder, trained_folder

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "core-v1"
    if name == "core-v1":
        made = core_suite(reference_folder())
    else:
        made = planned_suite(PLANS[name], (reference_folder(), trained_folder()))
    sys.stdout.write(made.decode("ascii"))
