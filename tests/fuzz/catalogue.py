"""All kinds of files that are tried."""

from __future__ import annotations

from fuzz import documents, images, models, records, tables

KINDS = (
    *(images.IMAGE, images.LABELS, images.PARCELLATION),
    *(tables.TABLE, tables.RATINGS, tables.SIDECAR),
    *(documents.CONFIG, documents.COMMAND_OPTIONS, documents.DETECTOR),
    *(records.COHORT_RECORD, records.COHORT, records.WORK, records.KEPT, records.EXPLAINED),
    *(records.TRAINED, models.MODEL, models.STORED, models.CHECKPOINT, models.OLDER_CHECKPOINT),
    *(models.PROGRAM, models.PLANS, models.ARCHIVE, models.CONFIGURATION),
)
