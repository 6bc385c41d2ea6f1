"""Write `migrations/postgresql.json`, what PostgreSQL says of the newest schema.

Run it after a migration was added: python -m tests.contract.postgres_record
"""

from __future__ import annotations

import json

from mass_gov.config_data import data_folder
from mass_gov.ledger import catalogue
from mass_gov.ledger.engines import open_database
from tests.fakes.postgres_server import server, stop_server


def main() -> None:
    """Migrate a fresh database and write down what the server says of it."""
    database = open_database(server().url(server().ledger_database()))
    try:
        with database.read() as connection:
            found = catalogue.describe(connection)
    finally:
        database.close()
        stop_server()
    text = json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (data_folder("migrations") / catalogue.RECORD).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
