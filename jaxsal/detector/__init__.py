"""False lesions, told by their maps: features, a logistic regression, and the file that keeps it.

- `ibsi`: first-order statistics and texture as the IBSI defines them
- `features`: of a lesion's maps, and of all lesions of a scan
- `logistic`: the regression, its threshold, and folds by patient
- `detector`: what a detector is, and its file
- `fit`, `apply`: a detector of a cohort's results, and results without what it holds for false
"""
