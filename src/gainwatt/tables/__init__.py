"""Tables: pure functions of a study's records. Nothing here imports torch, and nothing here measures."""
