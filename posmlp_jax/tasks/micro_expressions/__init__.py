"""Which emotion a micro-expression shows, of people whom the model was not trained on."""
