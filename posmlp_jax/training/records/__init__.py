"""What a run writes down: metrics, TensorBoard's events, the lines and the bar on the terminal."""
