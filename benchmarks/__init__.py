"""What mainstem promises about speed, measured beside the systems that people would otherwise take.

`python -m benchmarks` prints the tables and writes `benchmarks/RESULTS*.md`. Peers run in the same minutes on the same
machine, taking turns with mainstem, because a shared machine gives no absolute figure that can be trusted: the ratio
of one round is the figure, the median of the rounds its value.
"""
