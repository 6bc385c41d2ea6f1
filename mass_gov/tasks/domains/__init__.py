"""One file per task domain; `mass_gov.tasks.registry` knows them all."""
