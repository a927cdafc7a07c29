"""The questions that the paper asks of its maps, to be asked of any network and cohort."""
