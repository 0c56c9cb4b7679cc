"""The report: one self-contained page per study, and one page of the items that changed between two cells.

Both are pure functions of records, tables and figures: nothing here measures, imports torch or asks the network.
"""
