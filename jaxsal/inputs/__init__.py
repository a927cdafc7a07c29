"""What is read: the images of a scan, tables of scans, and BIDS datasets."""
