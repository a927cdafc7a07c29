"""The questions that the paper asks of its maps, to be asked of any network and cohort.

- `catalogue`: all experiments by name, each of them a module: `aggregation`, `context`,
  `contributions`, `groups`, `levels`, `sanity`, `synthetic`; modules that begin so belong to one.
- `study`, `each_scan`, `choice`, `reused`, `findings`: what all of them ask of, and what they find.
- `placed`, `regions`, `derived`, `head_outline`: lesions placed elsewhere, and scans made so.
- `statistics`: medians of groups, and how groups differ.
"""
