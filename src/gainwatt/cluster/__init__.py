"""Running the workflow on a cluster: what the Slurm executor lacks, costs before a run, and what a run has used."""
