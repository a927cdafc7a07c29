"""The saliency methods, one file each: settings, appearance, cost, and which module computes maps.

`jaxsal.registry.METHODS` lists them. These modules import nothing heavy, so that the command line
can show the options of every method.
"""
