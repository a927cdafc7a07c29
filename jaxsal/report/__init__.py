"""HTML pages over the results of a scan or a cohort."""
