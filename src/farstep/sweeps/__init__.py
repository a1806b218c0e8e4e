"""Many runs as one command: what is to be trained, and the engines that carry it out."""
