"""The cell probe fitted without gradients: pairs from a user's good photos, hidden states, logistic regression."""
