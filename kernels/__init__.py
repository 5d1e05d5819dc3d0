"""vnbench's workloads: one file each, found by ``bench.registry``. See README.md beside this file."""

DISTRIBUTION = "vnbench"  # how the registry tells this package from others named ``kernels``
