"""Facts about data sets, as data: class names, joints with left/right pairs, split rules, missing lists.

Read by `pipeline.manifest`; sources are in README.md. There is no code here.
"""
