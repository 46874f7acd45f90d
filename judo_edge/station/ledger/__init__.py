"""The ledger of a station: jobs, results and what belongs to them, in one SQLite file that survives a power cut."""
