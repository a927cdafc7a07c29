"""Networks: their layers, their configurations, and the one registry that lists them."""
