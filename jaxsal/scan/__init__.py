"""One scan, from image files to result files: predict its lesions, explain them.

- `predict`, `prediction`, `notes`: its lesions, and what looks like a mistake in its files.
- `explain`, `explanations`, `methods`, `portions`: the maps of its lesions, portion by portion.
- `amount`, `calibration`: what they will take, and how far they are.
- `writing`, `lesion_table`, `map_files`, `provenance`: the results.
- `unfinished`: what an interrupted run goes on with.
"""
