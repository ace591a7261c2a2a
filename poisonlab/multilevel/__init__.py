"""Games of several players: nested minimisation by gradient descent, and hyperparameters learned under poisoning."""
