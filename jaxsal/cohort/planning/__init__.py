"""What a run will take, from trials of some scans."""
