"""Where desired state comes from: YAML files in, a generation or every error at once out."""
