"""JUDO's text contract: prompt profiles, questions, the `<seg>` grammar and replies. No tensors."""
