"""The report over a cohort's folder, and its pictures."""
