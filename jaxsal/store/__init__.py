"""Folders of results: whose they are, whole or not at all, and with what a run goes on.

- `files`: files and folders that appear whole or not at all.
- `output_folder`, `staging`: a folder whose results all appear together (one scan).
- `run_folder`, `lock`, `identity`: a folder that runs share, one after the other (cohorts,
  trainings, studies): its owner, who works in it, and what its results depend on.
- `records`, `file_list`, `claims`: what is done, of which files, what is unfinished, and who works
  on it.
- `inside`: names that are read from records lead nowhere else.
- `bids_dataset`: results as a BIDS dataset of derivatives.

``--overwrite`` means the same in every command: begin anew, and replace what earlier runs of jaxsal
wrote in that place. Without it, a place that holds results is refused, or gone on with: a run over
scans and a training take up results of the same identity, and refuse others. In either case:

- Files that jaxsal did not write stay. A scan's results that somebody changed count as such: the
  folder is refused.
- A scan's results, a model and a table make way only when the new ones are complete.
- Lesions that an interrupted `explain` finished are part of the results of the same command, which
  goes on after them with ``--overwrite``, too. Other commands refuse them, or remove them with it.
"""
