"""What a difference means: intervals, paired tests, gain survival, multiple comparisons and power."""
