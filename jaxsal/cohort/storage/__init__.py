"""The cohort's folder: results under their names, records, unfinished work, locks and tables."""
