"""Every file of a cohort is looked at before anything is computed."""
