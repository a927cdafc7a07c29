"""Many scans: from a table or a BIDS folder to a folder of derivatives and one table.

- `check`: what is wrong with the files, before anything is computed.
- `planning`: what a run will take.
- `run`, `cohort_run`, `job`, `parts`: the run, what it does with every scan, what its parts share.
- `machines`: what computes: the devices of this machine, or the workers of a cluster.
- `storage`, `columns`: the cohort's folder and its tables.
- `results`, `status`, `report`, `pictures`: what is read from that folder, and its page.
"""
