"""Print the regression suite that ships, built again from its seed and the shipped base: `core-v1.jsonl`."""

from __future__ import annotations

import sys

from mass_gov.flows.base_suite import core_suite
from mass_gov.mass.reference_model import reference_folder

if __name__ == "__main__":
    sys.stdout.write(core_suite(reference_folder()).decode("ascii"))
