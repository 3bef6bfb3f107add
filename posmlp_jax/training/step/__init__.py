"""One step of training: gradients, the optimizer, its rate, what is frozen, the moving average."""
