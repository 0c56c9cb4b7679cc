"""Two studies, or two runs of one study, side by side: what changed, and which differences exceed noise."""
