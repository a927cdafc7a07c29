"""Networks: their layers and configurations. `jaxsal.registry.NETWORKS` lists them."""
