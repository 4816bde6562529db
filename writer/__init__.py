"""The command side: HTTP writes that become MySQL transactions, and nothing else."""
