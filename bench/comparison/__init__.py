"""Several sides beside a reference: what `vnbench compare` says."""
