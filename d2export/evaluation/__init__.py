"""What pruning costs: the accuracy of a model or a bundle on a task, paired against unpruned."""
