"""What is measured on pictures before a build: priors, INT8 scales."""
