"""Many scans: from a manifest or a BIDS folder to a folder of derivatives and one table."""
