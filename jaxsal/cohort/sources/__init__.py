"""Where a cohort comes from: a table of scans, or a BIDS folder."""
