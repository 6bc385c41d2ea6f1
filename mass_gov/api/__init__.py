"""The HTTP door: FastAPI under `/v1`. A request in, one flow or one question asked, JSON out.

Rules: no torch, not even lazily; whatever generates or learns is reached through a port of `Service`. Every answer that
is not a success is a problem of the one catalogue (`problems`). Every route but the OpenAPI document asks `access` who
is calling. What belongs to a tenant that the caller may not see does not exist for them. Documents are those of the
command line (`mass_gov.documents`).
"""

from mass_gov.api.app import create_app
from mass_gov.api.service import Limits, Service

__all__ = ["Limits", "Service", "create_app"]
