"""Small decision processes whose every quantity is known exactly: ground truth for the critics."""
