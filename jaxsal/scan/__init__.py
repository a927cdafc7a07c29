"""One scan, from image files to result files: predict its lesions, explain them."""
